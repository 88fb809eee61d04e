// manual.go writes the reference of all verbs for the documentation.

package cli

import (
	"fmt"
	"strings"
)

// Manual returns the reference of all verbs in Markdown: text, examples and flags, from the declarations that -h has.
func (a *App) Manual() string {
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	var b strings.Builder
	for i, c := range a.Commands {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "### %s %s\n\n%s\n\n```sh\n", a.Name, c.Name, wrap(c.Text, "", 120))
		width := 0
		for _, e := range c.Examples {
			if len(e.Line) < 64 {
				width = max(width, len(e.Line))
			}
		}
		for _, e := range c.Examples {
			fmt.Fprintf(&b, "%-*s # %s\n", width, e.Line, e.Does)
		}
		b.WriteString("```\n")
		flags := flagsOf(c)
		for _, group := range flags.groups {
			fmt.Fprintf(&b, "\n| %s | |\n|---|---|\n", strings.ToLower(group))
			for _, f := range flags.list {
				if f.group == group {
					fmt.Fprintf(&b, "| `%s` | %s |\n", cell.Replace(f.head()), cell.Replace(f.words()))
				}
			}
		}
	}
	return b.String()
}
