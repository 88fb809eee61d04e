//go:build linux

// disk_test.go fills the disk that history is on.

package natsbroker_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

// smallDisk returns a directory on a disk of some megabytes. Where nobody may mount one, a limit of the size of files does.
func smallDisk(t *testing.T, bytes string) (dir string, mounted bool) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+bytes); err != nil {
		t.Logf("no small disk: %v", err)
		return dir, false
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir, true
}

// With a full disk, publishing to topics with history fails with hub.ErrBroker, and other topics go on. Once there is room
// and the node has started again, what was acknowledged is there.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir, mounted := smallDisk(t, "24m")
	opts := natsbroker.Options{Dir: filepath.Join(dir, "nats"), Timeout: 5 * time.Second, Logger: quiet}
	if !mounted {
		opts.MaxBytes = 4 << 20 // lets go of the oldest instead, and never fails
	}
	node := func() (*natsbroker.Broker, *hub.Hub) {
		b, err := natsbroker.Embedded(&opts)
		require.NoError(t, err)
		return b, hub.New(&hub.Options{Broker: b, History: []hub.History{{Topics: "kept.>", Messages: -1, Bytes: -1}}})
	}
	b, h := node()
	text, acked := strings.Repeat("x", 64<<10), 0
	var failed error
	for range 1000 {
		if failed = h.Publish(t.Context(), "kept.a", wsd.Text(text)); failed != nil {
			break
		}
		acked++
	}
	if mounted {
		require.ErrorIs(t, failed, hub.ErrBroker)
	} else {
		require.NoError(t, failed)
	}
	require.GreaterOrEqual(t, b.Stats().Stored, uint64(min(acked, 16)*len(text)))
	if mounted {
		require.EqualValues(t, 1, b.Stats().Failed)
	}
	l, err := h.Listen("live")
	require.NoError(t, err)
	require.NoError(t, h.Publish(t.Context(), "live", wsd.Text("x")))
	require.Equal(t, "x", string((<-l.C()).Message.Data))
	require.NoError(t, h.Close())
	require.NoError(t, b.Close())
	if !mounted {
		return
	}
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=128m"))
	b, h = node()
	defer func() { require.NoError(t, errors.Join(h.Close(), b.Close())) }()
	require.Eventually(t, func() bool { return h.Publish(t.Context(), "kept.a", wsd.Text("last")) == nil }, patience, 10*time.Millisecond)
	found := 0
	for at := (hub.Position{}); ; {
		page, err := h.History(t.Context(), "kept.a", at, 64)
		require.NoError(t, err)
		if found += len(page.Publications); !page.More {
			break
		}
		at = page.Publications[len(page.Publications)-1].At
	}
	require.GreaterOrEqual(t, found, acked+1)
	_, err = os.Stat(opts.Dir)
	require.NoError(t, err)
}
