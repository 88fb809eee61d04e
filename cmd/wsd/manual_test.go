// manual_test.go keeps docs/command.md and the flags the same.

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the reference in docs/command.md anew")

const (
	manualBegin = "<!-- The reference is made from the declarations of the flags: go generate ./cmd/wsd -->\n\n"
	manualEnd   = "\n<!-- The end of the reference -->\n"
)

func TestManualIsUpToDate(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "command.md")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(content), manualBegin)
	require.True(t, ok)
	written, after, ok := strings.Cut(rest, manualEnd)
	require.True(t, ok)
	want := app().Manual()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(before+manualBegin+want+manualEnd+after), 0o644))
		return
	}
	assert.Equal(t, want, written, "go generate ./cmd/wsd writes it anew")
}
