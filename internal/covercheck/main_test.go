// main_test.go tests how statements are counted.
package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const profile = `mode: atomic
example.org/m/a.go:1.1,2.2 3 7
example.org/m/a.go:3.1,4.2 1 0
example.org/m/b.go:1.1,2.2 6 0
mode: atomic
example.org/m/a.go:1.1,2.2 3 0
example.org/m/sub/ba.go:1.1,2.2 10 1
`

func TestCovered(t *testing.T) {
	for name, test := range map[string]struct {
		profile string
		files   []string
		want    float64
		problem string
	}{
		"all files":          {profile, nil, 65, ""}, // 13 of 20
		"one file":           {profile, []string{"a.go"}, 75, ""},
		"two files":          {profile, []string{"a.go", "b.go"}, 30, ""},
		"a file in a folder": {profile, []string{"sub/ba.go"}, 100, ""},
		"a file not there":   {profile, []string{"a.go", "c.go"}, 0, "no statement of c.go"},
		"nothing":            {"mode: set\n", nil, 0, "no statement in the profile"},
		"no profile":         {"nonsense\n", nil, 0, `got "nonsense"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := covered(strings.NewReader(test.profile), test.files)
			if test.problem != "" {
				require.ErrorContains(t, err, test.problem)
				return
			}
			require.NoError(t, err)
			require.InDelta(t, test.want, got, 1e-9)
		})
	}
}
