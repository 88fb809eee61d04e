module github.com/seed62836080/wsd/h3

go 1.26.0

require (
	github.com/quic-go/quic-go v0.65.0
	github.com/seed62836080/wsd v0.0.0
	github.com/seed62836080/wsd/conformance v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/quic-go/qpack v0.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.54.0 // indirect
	golang.org/x/net v0.56.0 // indirect
	golang.org/x/sync v0.22.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.40.0 // indirect
)

replace github.com/seed62836080/wsd => ../

replace github.com/seed62836080/wsd/conformance => ../conformance
