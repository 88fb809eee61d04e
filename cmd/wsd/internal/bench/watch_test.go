// watch_test.go checks who is shown how a run goes.

package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// What is no terminal has no progress, for however long a run goes on.
func TestLiveIsForTerminals(t *testing.T) {
	var written strings.Builder
	l := newLive(&written, false)
	l.last = time.Now().Add(-time.Hour)
	l.show(point{At: 3600, Rate: 1})
	l.clear()
	assert.Empty(t, written.String())
}
