// help.go writes what -h and help VERB show: the one fits a screen, the other has all there is.

package cli

import (
	"fmt"
	"runtime/debug"
	"strings"
)

const screen = 80 // columns

// overview is what the program shows without a verb.
func (a *App) overview() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", a.Summary)
	for _, c := range a.Commands {
		examples(&b, c.Examples[:1])
	}
	b.WriteString("\n")
	for _, c := range a.Commands {
		fmt.Fprintf(&b, "  %-11s %s\n", c.Name, c.Summary)
	}
	fmt.Fprintf(&b, "  %-11s all flags of a verb; %s VERB -h shows the usual ones\n", "help VERB", a.Name)
	fmt.Fprintf(&b, "  %-11s a script for bash, zsh or fish\n", "completion")
	b.WriteString("\nExit status: 0 done, 1 the peer or the network failed, 2 wrong usage, 3 a check\nfailed.\n")
	return b.String()
}

// flagsOf returns the flags of a verb.
func flagsOf(c *Command) *Flags {
	flags := newFlags()
	c.New(flags)
	return flags
}

func (f *Flag) head() string {
	if f.Value == "" {
		return "-" + f.Name
	}
	return "-" + f.Name + " " + f.Value
}

func (f *Flag) words() string {
	if f.Default == "" {
		return f.Usage
	}
	return f.Usage + " (" + f.Default + ")"
}

func examples(b *strings.Builder, list []Example) {
	for _, e := range list {
		if len(e.Line)+len(e.Does) < screen-6 {
			fmt.Fprintf(b, "  %-*s  %s\n", screen-4-len(e.Does), e.Line, e.Does)
			continue
		}
		fmt.Fprintf(b, "  %s\n      %s\n", e.Line, e.Does)
	}
}

// shortHelp is what -h shows: examples, the usual flags in a line each, the names of the others.
func (a *App) shortHelp(c *Command) string {
	var b strings.Builder
	examples(&b, c.Examples[:3])
	fmt.Fprintf(&b, "\n%s\n", wrap(fmt.Sprintf("%s %s [FLAGS] %s: %s.", a.Name, c.Name, c.Args, c.Summary), "", screen))
	var others []string
	for _, f := range flagsOf(c).list {
		if !f.common {
			others = append(others, "-"+f.Name)
			continue
		}
		b.WriteString(entry("  "+f.head(), f.words(), 20))
	}
	if len(others) > 0 {
		fmt.Fprintf(&b, "%s\n", wrap(fmt.Sprintf("And, as %s help %s tells: %s", a.Name, c.Name, strings.Join(others, " ")), "", screen))
	}
	return b.String()
}

// fullHelp is what help VERB shows.
func (a *App) fullHelp(c *Command) string {
	var b strings.Builder
	examples(&b, c.Examples)
	fmt.Fprintf(&b, "\n%s\n\n%s\n", wrap(fmt.Sprintf("%s %s [FLAGS] %s: %s.", a.Name, c.Name, c.Args, c.Summary), "", screen),
		wrap(c.Text, "", screen))
	flags := flagsOf(c)
	for _, group := range flags.groups {
		fmt.Fprintf(&b, "\n%s\n", group)
		for _, f := range flags.list {
			if f.group == group {
				b.WriteString(entry("  "+f.head(), f.words(), 26))
			}
		}
	}
	return b.String()
}

// entry is a flag and its description, which begins at a column.
func entry(head, words string, column int) string {
	indent := strings.Repeat(" ", column)
	text := wrap(words, indent, screen)
	if len(head) > column-2 {
		return head + "\n" + indent + text + "\n"
	}
	return fmt.Sprintf("%-*s%s\n", column, head, text)
}

// wrap breaks text into lines of so many columns. The first has no indent, but room for one.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	column := len(indent)
	for i, word := range strings.Fields(text) {
		length := len([]rune(word))
		switch {
		case i == 0:
		case column+1+length > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}

// version is what the build knows of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "of an unknown version"
	}
	words := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && !strings.Contains(words, s.Value[:12]) {
			words += " " + s.Value[:12]
		}
	}
	return words + " " + info.GoVersion
}
