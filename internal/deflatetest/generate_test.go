// generate_test.go tests that what is generated is worth reading.
package deflatetest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGenerate(t *testing.T) {
	const rounds = 1000
	valid, finals, size := 0, 0, 0
	for seed := range rounds {
		data, final, err := Judge(Generate(Sample("random", 20+seed)), make([]byte, 32<<10))
		if err == nil {
			valid++
		}
		if final {
			finals++
		}
		size += len(data)
	}
	require.Greater(t, valid, rounds/4, "too few reach the end")
	require.Less(t, valid, rounds*3/4, "too few go wrong")
	require.Greater(t, finals, rounds/100)
	require.Less(t, finals, rounds/2, "too many end early")
	require.Greater(t, size, 100*rounds)
}

// Judge takes no message for whole that ends inside a block, even if what comes behind it happens to continue that.
func TestJudge(t *testing.T) {
	whole := Compress(t, 6, []byte("Hello"))[0]
	data, final, err := Judge(whole, nil)
	require.NoError(t, err)
	require.False(t, final)
	require.Equal(t, "Hello", string(data))
	_, _, err = Judge(whole[:4], nil)
	require.Error(t, err)
	_, final, err = Judge(append([]byte("\x03\x00"), whole...), nil)
	require.NoError(t, err)
	require.True(t, final)
}
