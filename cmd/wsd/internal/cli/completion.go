// completion.go writes scripts with which shells complete verbs, flags and their values.

package cli

import (
	"fmt"
	"slices"
	"strings"
)

// completion returns the script for a shell.
func (a *App) completion(args []string) (string, error) {
	shells := map[string]func() string{"bash": a.bash, "zsh": a.zsh, "fish": a.fish}
	switch {
	case len(args) == 1 && slices.Contains([]string{"-h", "--h", "-help", "--help"}, args[0]):
		return a.completionHelp(), nil
	case len(args) != 1 || shells[args[0]] == nil:
		return "", Usagef("expected the name of a shell: bash, zsh or fish")
	}
	return shells[args[0]](), nil
}

// completionHelp says where the scripts belong.
func (a *App) completionHelp() string {
	return fmt.Sprintf(`  source <(%[1]s completion bash)    in ~/.bashrc
  source <(%[1]s completion zsh)     in ~/.zshrc, behind compinit
  %[1]s completion fish | source     in ~/.config/fish/config.fish

%[1]s completion bash|zsh|fish: a script that completes verbs, flags and values.
`, a.Name)
}

// names returns the first words there are.
func (a *App) names() []string {
	var names []string
	for _, c := range a.Commands {
		names = append(names, c.Name)
	}
	return append(names, "help", "version", "completion")
}

func (a *App) bash() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# bash completion for %[1]s: source <(%[1]s completion bash)
_%[1]s() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags= choices= files=
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		COMPREPLY=($(compgen -W '%[2]s' -- "$word"))
		return
	fi
	case ${COMP_WORDS[1]} in
	help) choices='%[3]s' ;;
	completion) choices='bash zsh fish' ;;
`, a.Name, strings.Join(a.names(), " "), strings.Join(a.names()[:len(a.Commands)], " "))
	for _, c := range a.Commands {
		var names, files []string
		cases := ""
		for _, f := range flagsOf(c).list {
			names = append(names, "-"+f.Name)
			switch {
			case f.file:
				files = append(files, "-"+f.Name, "--"+f.Name)
			case len(f.choices) > 0:
				cases += fmt.Sprintf("\t\t-%s|--%s) choices='%s' ;;\n", f.Name, f.Name, strings.Join(f.choices, " "))
			}
		}
		fmt.Fprintf(&b, "\t%s)\n\t\tflags='%s -h'\n\t\tcase $before in\n%s", c.Name, strings.Join(names, " "), cases)
		if len(files) > 0 {
			fmt.Fprintf(&b, "\t\t%s) files=yes ;;\n", strings.Join(files, "|"))
		}
		b.WriteString("\t\tesac\n\t\t;;\n")
	}
	fmt.Fprintf(&b, `	esac
	if [[ -n $choices ]]; then
		COMPREPLY=($(compgen -W "$choices" -- "$word"))
	elif [[ -n $files ]]; then
		COMPREPLY=($(compgen -f -- "$word"))
	elif [[ $word == --* ]]; then
		COMPREPLY=($(compgen -W "${flags//-/--}" -- "$word"))
	elif [[ $word == -* ]]; then
		COMPREPLY=($(compgen -W "$flags" -- "$word"))
	fi
}
complete -o default -F _%[1]s %[1]s
`, a.Name)
	// A flag's name may hold dashes of its own.
	return strings.Replace(b.String(), `"${flags//-/--}"`, `"${flags// -/ --} -${flags%% *}"`, 1)
}

func (a *App) zsh() string {
	quote := strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`, ":", `\:`)
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %[1]s\n# zsh completion for %[1]s: source <(%[1]s completion zsh), behind compinit\n_%[1]s() {\n\tlocal -a verbs\n\tverbs=(\n", a.Name)
	for _, c := range a.Commands {
		fmt.Fprintf(&b, "\t\t'%s:%s'\n", c.Name, quote.Replace(c.Summary))
	}
	b.WriteString("\t\t'help:all flags of a verb'\n\t\t'version:the version'\n\t\t'completion:a script for a shell'\n\t)\n" +
		"\tif ((CURRENT == 2)); then\n\t\t_describe verb verbs\n\t\treturn\n\tfi\n\tlocal verb=$words[2]\n" +
		"\tshift words\n\t((CURRENT--))\n" +
		// Two dashes are one to what follows, and what is being typed keeps its second.
		"\twords=(\"${(@)words/#--/-}\")\n\t[[ $PREFIX == --* ]] && compset -P -\n\tcase $verb in\n")
	fmt.Fprintf(&b, "\thelp) _values verb %s ;;\n\tcompletion) _values shell bash zsh fish ;;\n", strings.Join(a.names()[:len(a.Commands)], " "))
	for _, c := range a.Commands {
		fmt.Fprintf(&b, "\t%s)\n\t\t_arguments \\\n", c.Name)
		for _, f := range flagsOf(c).list {
			action := ""
			switch {
			case f.file:
				action = ":" + strings.ToLower(f.Value) + ":_files"
			case len(f.choices) > 0:
				action = ":value:(" + strings.Join(f.choices, " ") + ")"
			case f.Value != "":
				action = ":" + quote.Replace(strings.ToLower(f.Value)) + ": "
			}
			fmt.Fprintf(&b, "\t\t\t'*-%s[%s]%s' \\\n", f.Name, quote.Replace(f.words()), action)
		}
		b.WriteString("\t\t\t'*:argument:_files'\n\t\t;;\n")
	}
	fmt.Fprintf(&b, "\tesac\n}\ncompdef _%[1]s %[1]s\n", a.Name)
	return b.String()
}

func (a *App) fish() string {
	quote := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion for %[1]s: %[1]s completion fish | source\ncomplete -c %[1]s -e\n"+
		"function __%[1]s_two_dashes # in what is being typed, or ahead of it\n\tstring match -q -- '--*' (commandline -ct) (commandline -opc)[-1]\nend\n", a.Name)
	first := fmt.Sprintf("complete -c %s -n __fish_use_subcommand -f -a ", a.Name)
	for _, c := range a.Commands {
		fmt.Fprintf(&b, "%s%s -d '%s'\n", first, c.Name, quote.Replace(c.Summary))
	}
	fmt.Fprintf(&b, "%[1]shelp -d 'all flags of a verb'\n%[1]sversion -d 'the version'\n%[1]scompletion -d 'a script for a shell'\n", first)
	fmt.Fprintf(&b, "complete -c %[1]s -n '__fish_seen_subcommand_from help' -f -a '%[2]s'\n"+
		"complete -c %[1]s -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n", a.Name, strings.Join(a.names()[:len(a.Commands)], " "))
	for _, c := range a.Commands {
		for _, f := range flagsOf(c).list {
			value := ""
			switch {
			case f.file:
				value = " -r -F"
			case len(f.choices) > 0:
				value = fmt.Sprintf(" -x -a '%s'", strings.Join(f.choices, " "))
			case f.Value != "":
				value = " -x"
			}
			for _, dashes := range []string{"' -o ", fmt.Sprintf("; and __%s_two_dashes' -l ", a.Name)} {
				fmt.Fprintf(&b, "complete -c %s -n '__fish_seen_subcommand_from %s%s%s -d '%s'%s\n", a.Name, c.Name, dashes, f.Name, quote.Replace(f.words()), value)
			}
		}
	}
	return b.String()
}
