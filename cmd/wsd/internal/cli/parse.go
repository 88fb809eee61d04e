// parse.go reads a command line: flags before, between and behind operands, with one dash or two, and for those that
// there are not, what was meant.

package cli

import (
	"errors"
	"strings"
)

var errHelp = errors.New("help was asked for")

// parse sets the flags and returns the operands. Behind "--" all are operands, and "-" alone is one.
func (f *Flags) parse(c *Command, args []string) (operands []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return append(operands, args...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if known := f.set.Lookup(name); known == nil {
			if name == "h" || name == "help" {
				return nil, errHelp
			}
			return nil, f.unknown(c, arg, name)
		} else if _, alone := known.Value.(*boolean); alone && !given {
			value = "true"
		} else if !given {
			if len(args) == 0 {
				return nil, Usagef("-%s: expected %s behind it: %s", name, f.named(name).Value, f.named(name).Usage)
			}
			value, args = args[0], args[1:]
		}
		if err := f.set.Set(name, value); err != nil {
			return nil, Usagef("-%s: %v", name, err)
		}
	}
	return operands, nil
}

func (f *Flags) named(name string) *Flag {
	for _, known := range f.list {
		if known.Name == name {
			return known
		}
	}
	return nil
}

// unknown is the error for a flag that there is not.
func (f *Flags) unknown(c *Command, arg, name string) error {
	if meant := c.Meant[name]; meant != "" {
		return Usagef("there is no flag %s: %s", arg, meant)
	}
	var names []string
	for _, known := range f.list {
		names = append(names, known.Name)
	}
	if near := nearest(name, names); near != "" {
		return Usagef("there is no flag %s, did you mean -%s (%s)?", arg, near, f.named(near).Usage)
	}
	return Usagef("there is no flag %s", arg)
}

// nearest returns the one of the names that a word is most probably meant to be, or "".
func nearest(word string, names []string) string {
	best, least := "", len(word)/3+2
	for _, name := range names {
		d := distance(strings.ToLower(word), strings.ToLower(name))
		// A beginning or an ending says more than the letters that are missing.
		if len(word) >= 3 && (strings.HasPrefix(name, word) || strings.HasSuffix(name, word)) {
			d = 1
		}
		if d < least && d < max(len(word), len(name)) {
			best, least = name, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with a neighbour that turn a into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
