// Covercheck fails if a cover profile stays below a threshold.
//
//	go run ./internal/covercheck PROFILE PERCENT [FILE...]
//
// It counts the statements of the named files, or of all files if none is named, as go tool cover does, and prints the
// share that the tests ran. A name is the end of a path in the profile, from a slash on. Status 1 means too little.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fail(2, "usage: covercheck PROFILE PERCENT [FILE...]")
	}
	least, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		fail(2, err)
	}
	profile, err := os.Open(os.Args[1])
	if err != nil {
		fail(2, err)
	}
	defer profile.Close()
	percent, err := covered(profile, os.Args[3:])
	if err != nil {
		fail(2, err)
	}
	what := "all files"
	if len(os.Args) > 3 {
		what = strings.Join(os.Args[3:], ", ")
	}
	fmt.Printf("%.1f%% of the statements covered, at least %g%% expected: %s\n", percent, least, what)
	if percent < least {
		os.Exit(1)
	}
}

func fail(status int, problem any) {
	fmt.Fprintln(os.Stderr, "covercheck:", problem)
	os.Exit(status)
}

// covered returns the share of statements that were run, in percent. It is an error if a named file has none.
func covered(profile io.Reader, files []string) (float64, error) {
	type block struct {
		statements int
		run        bool
	}
	blocks := map[string]block{} // a block stands in the profile once for each test binary
	found := map[string]bool{}
	lines := bufio.NewScanner(profile)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		place, numbers, _ := strings.Cut(line, " ")
		statements, count, _ := strings.Cut(numbers, " ")
		n, err := strconv.Atoi(statements)
		if err != nil {
			return 0, fmt.Errorf("expected a block, its statements and its count, got %q", line)
		}
		path, _, _ := strings.Cut(place, ":")
		if len(files) > 0 && !named(path, files, found) {
			continue
		}
		blocks[place] = block{n, blocks[place].run || count != "0"}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	for _, file := range files {
		if !found[file] {
			return 0, fmt.Errorf("no statement of %s in the profile", file)
		}
	}
	run, all := 0, 0
	for _, b := range blocks {
		all += b.statements
		if b.run {
			run += b.statements
		}
	}
	if all == 0 {
		return 0, fmt.Errorf("no statement in the profile")
	}
	return 100 * float64(run) / float64(all), nil
}

// named reports whether path is one of files, and remembers which.
func named(path string, files []string, found map[string]bool) bool {
	for _, file := range files {
		if path == file || strings.HasSuffix(path, "/"+file) {
			found[file] = true
			return true
		}
	}
	return false
}
