// machine_linux.go asks the system for what all processes of this machine take.

package bench

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// machineTime returns how much time all processors have been busy, and how much there has been, in a unit of the system's. ok is
// false where that is not known, or some of the processors are not for this process.
func machineTime() (busy, all uint64, ok bool) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil || strings.Count(string(stat), "\ncpu") != runtime.GOMAXPROCS(0) {
		return 0, 0, false
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal guest …, where guest is in user, too
	if len(fields) < 9 {
		return 0, 0, false
	}
	for i, field := range fields[1:9] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		all += n
		if i != 3 && i != 4 {
			busy += n
		}
	}
	return busy, all, true
}
