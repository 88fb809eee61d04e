// flags.go declares flags, each with the words that help, completion and manual have for it.

package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Flags are the flags of one verb.
type Flags struct {
	set    *flag.FlagSet
	list   []*Flag
	group  string
	groups []string
	rare   bool
}

// Flag is one of them.
type Flag struct {
	Name    string
	Value   string // a word for its value; empty if it has none
	Usage   string // what it does, without a full stop
	Default string // if that is to be told
	group   string
	common  bool     // in -h, too
	rare    bool     // never in -h
	choices []string // the values there are, for completion
	file    bool     // its value is a file's name
}

func newFlags() *Flags {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	return &Flags{set: set}
}

// Common has a flag shown by -h; the others are in help VERB.
func (f *Flag) Common() *Flag { f.common = !f.rare; return f }

// File says that the value is a file's name.
func (f *Flag) File() *Flag { f.file = true; return f }

// Group begins a group of flags, with a title.
func (f *Flags) Group(title string) {
	f.group = title
	f.groups = append(f.groups, title)
}

// Rare has none of the flags that follow shown by -h: they are not what the verb is about.
func (f *Flags) Rare() { f.rare = true }

func (f *Flags) add(name, value, usage string, v flag.Value) *Flag {
	f.set.Var(v, name, usage)
	added := &Flag{Name: name, Value: value, Usage: usage, group: f.group, rare: f.rare}
	f.list = append(f.list, added)
	return added
}

// Bool declares a flag without a value.
func (f *Flags) Bool(p *bool, name, usage string) *Flag {
	return f.add(name, "", usage, (*boolean)(p))
}

// Set declares a flag whose value is given to a function.
func (f *Flags) Set(name, value, usage string, set func(string) error) *Flag {
	return f.add(name, value, usage, setter(set))
}

// String declares a flag with any text.
func (f *Flags) String(p *string, name, value, usage string) *Flag {
	d := *p
	added := f.Set(name, value, usage, func(s string) error { *p = s; return nil })
	added.Default = d
	return added
}

// Strings declares a flag that can be repeated.
func (f *Flags) Strings(p *[]string, name, value, usage string) *Flag {
	return f.Set(name, value, usage, func(s string) error { *p = append(*p, s); return nil })
}

// Choice declares a flag with one of some values.
func (f *Flags) Choice(p *string, name, usage string, choices ...string) *Flag {
	d := *p
	added := f.Set(name, strings.Join(choices, "|"), usage, func(s string) error {
		for _, c := range choices {
			if s == c {
				*p = s
				return nil
			}
		}
		return fmt.Errorf("expected %s, got %q", strings.Join(choices, " or "), s)
	})
	added.Default, added.choices = d, choices
	return added
}

// Int declares a flag with a whole number that is at least so large.
func (f *Flags) Int(p *int, name, value, usage string, least int) *Flag {
	d := *p
	added := f.Set(name, value, usage, func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least {
			return fmt.Errorf("expected a whole number from %d on, got %q", least, s)
		}
		*p = n
		return nil
	})
	if d != 0 {
		added.Default = strconv.Itoa(d)
	}
	return added
}

// Float declares a flag with a number above zero.
func (f *Flags) Float(p *float64, name, value, usage string) *Flag {
	return f.Set(name, value, usage, func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n > 0) || n > 1e12 {
			return fmt.Errorf("expected a number above 0, got %q", s)
		}
		*p = n
		return nil
	})
}

// Duration declares a flag with a time, "1.5s", or "2" for seconds.
func (f *Flags) Duration(p *time.Duration, name, usage string) *Flag {
	d := *p
	added := f.Set(name, "TIME", usage, func(s string) error {
		parsed, err := ParseDuration(s)
		if err != nil {
			return err
		}
		*p = parsed
		return nil
	})
	if d != 0 {
		added.Default = d.String()
	}
	return added
}

// Size declares a flag with a number of bytes, "64KiB".
func (f *Flags) Size(p *int64, name, usage string) *Flag {
	d := *p
	added := f.Set(name, "BYTES", usage, func(s string) error {
		n, err := ParseSize(s)
		if err != nil {
			return err
		}
		*p = n
		return nil
	})
	if d != 0 {
		added.Default = FormatSize(d)
	}
	return added
}

// ParseDuration reads a time with a unit, or a number of seconds.
func ParseDuration(s string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 && n < 1e9 {
		return time.Duration(n * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("expected a time such as 500ms, 5s or 2m, got %q", s)
	}
	return d, nil
}

var units = []struct {
	name string
	size int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1000}, {"KB", 1000}, {"MB", 1e6}, {"GB", 1e9},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"B", 1}, {"", 1},
}

// ParseSize reads a number of bytes: 1500, 64KiB, 1M (1024 × 1024) or 1MB (1,000,000).
func ParseSize(s string) (int64, error) {
	for _, unit := range units {
		number, ok := strings.CutSuffix(s, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(n >= 0) || n*float64(unit.size) >= 1<<62 {
			break
		}
		return int64(n * float64(unit.size)), nil
	}
	return 0, fmt.Errorf("expected a number of bytes such as 512, 64KiB or 1MB, got %q", s)
}

// FormatSize writes a number of bytes as ParseSize reads it.
func FormatSize(n int64) string {
	for _, unit := range []int{2, 1, 0} {
		if u := units[unit]; n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// setter is a flag.Value that a function takes.
type setter func(string) error

func (s setter) Set(value string) error { return s(value) }
func (s setter) String() string         { return "" }

// boolean is a flag.Value of a flag that may stand alone.
type boolean bool

var errNotBool = errors.New("expected no value, or =true or =false")

func (b *boolean) Set(value string) error {
	set, err := strconv.ParseBool(value)
	if err != nil {
		return errNotBool
	}
	*b = boolean(set)
	return nil
}
func (b *boolean) String() string { return "" }
