package quote_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/quote"
)

func TestShort(t *testing.T) {
	require.Equal(t, `"a\r\nb"`, quote.Short("a\r\nb"))
	most := strings.Repeat("x", 64)
	require.Equal(t, `"`+most+`"`, quote.Short(most))
	require.Equal(t, `"`+most+`"...`, quote.Short(most+"y"))
}
