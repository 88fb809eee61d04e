// serverstats_internal_test.go tests from inside that the sums of a Server leave out no counter of a connection.

package wsd

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestServerStatsAddUp(t *testing.T) {
	var conn Stats
	fields := reflect.ValueOf(&conn).Elem()
	for i := range fields.NumField() {
		switch field := fields.Field(i); field.Kind() {
		case reflect.Uint64:
			field.SetUint(uint64(i + 1))
		case reflect.Int:
			field.SetInt(int64(i + 1))
		}
	}
	var sums ServerStats
	sums.add(&conn)
	sums.add(&conn)
	added := reflect.ValueOf(sums.Stats)
	for i := range added.NumField() {
		switch field, name := added.Field(i), added.Type().Field(i).Name; field.Kind() {
		case reflect.Uint64:
			require.EqualValues(t, 2*(i+1), field.Uint(), name)
		case reflect.Int:
			require.EqualValues(t, 2*(i+1), field.Int(), name)
		}
	}

	now := time.Now()
	for _, row := range []struct{ first, second, want time.Time }{
		{now, now.Add(time.Second), now},
		{now.Add(time.Second), now, now},
		{now, time.Time{}, now},
		{time.Time{}, now, now},
		{},
	} {
		var sums ServerStats
		sums.add(&Stats{OldestQueued: row.first})
		sums.add(&Stats{OldestQueued: row.second})
		require.Equal(t, row.want, sums.OldestQueued)
	}
}
