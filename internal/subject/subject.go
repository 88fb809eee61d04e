// Package subject knows the names of topics and the patterns that match them: tokens between dots, of which a pattern may
// have * for any one token and, as its last, > for all that are left. A Tree finds what has been added under the patterns
// that match a name.
package subject

import (
	"strings"
	"unicode/utf8"
)

// Limits bound what a subject may be.
type Limits struct {
	Length int // in bytes
	Tokens int
}

// Kind says where a subject is used.
type Kind uint8

// The kinds.
const (
	Literal Kind = iota // it names one topic: no wildcards
	Pattern             // it may have wildcards
)

// Problems that callers tell apart from others.
const (
	TooLong       = "it is too long"
	TooManyTokens = "it has too many tokens"
)

// Check returns what is wrong with a subject, "" if nothing is.
func Check(s string, kind Kind, limits Limits) (problem string) {
	switch {
	case s == "":
		return "expected a subject, got none"
	case len(s) > limits.Length:
		return TooLong
	}
	ascii, begun, tokens := true, 0, 1
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.':
			if i == begun {
				return "expected tokens between its dots, got an empty one"
			}
			begun = i + 1
			tokens++
		case c <= ' ' || c == 0x7F:
			return "expected tokens without blanks and control characters"
		case c >= utf8.RuneSelf:
			ascii = false
		case c == '*' || c == '>':
			alone := i == begun && (i+1 == len(s) || s[i+1] == '.')
			switch {
			case kind == Literal:
				return "expected a topic, got a pattern with " + string(c)
			case !alone:
				return "expected " + string(c) + " as a token of its own"
			case c == '>' && i+1 < len(s):
				return "expected > as its last token"
			}
		}
	}
	switch {
	case begun == len(s):
		return "expected tokens between its dots, got an empty one"
	case tokens > limits.Tokens:
		return TooManyTokens
	case !ascii && !utf8.ValidString(s):
		return "expected UTF-8"
	}
	return ""
}

// HasWildcard reports whether a valid subject is more than the name of one topic.
func HasWildcard(s string) bool { return strings.ContainsAny(s, "*>") }

// presence is the first token of the topics that tell of joins and leaves.
const presence = "presence"

// Reserved reports whether the first token of a subject keeps it for the hub and its brokers. A pattern whose first token is a
// wildcard does not match such topics.
func Reserved(s string) bool {
	first, _, _ := strings.Cut(s, ".")
	return System(s) || first == presence
}

// System reports whether a subject is for brokers alone.
func System(s string) bool { return strings.HasPrefix(s, "$") }

// Matches reports whether a valid pattern matches a valid topic.
func Matches(pattern, topic string) bool {
	if Reserved(topic) && (strings.HasPrefix(pattern, "*") || strings.HasPrefix(pattern, ">")) {
		return false
	}
	for {
		p, morePattern, patternGoesOn := strings.Cut(pattern, ".")
		t, moreTopic, topicGoesOn := strings.Cut(topic, ".")
		switch {
		case p == ">":
			return true
		case p != "*" && p != t, patternGoesOn != topicGoesOn:
			return false
		case !patternGoesOn:
			return true
		}
		pattern, topic = morePattern, moreTopic
	}
}
