module github.com/seed62836080/wsd/conformance

go 1.25.0

require (
	github.com/seed62836080/wsd v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sync v0.22.0 // indirect
)

replace github.com/seed62836080/wsd => ../
