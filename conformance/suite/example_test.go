// An example of the suite's use in a program.

package suite_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"regexp"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/conformance/suite"
)

func ExampleJudgeServer() {
	server := httptest.NewServer(&wsd.Server{Handler: echoAll})
	defer server.Close()

	cases := suite.Select(suite.Cases(suite.Load{}), suite.Server, regexp.MustCompile("^(limits|reserved opcodes)/"))
	results, err := suite.JudgeServer(context.Background(), server.URL, cases, &suite.Options{
		Ended: func(r suite.Result) { // as each case ends
			if r.Verdict == suite.Failed {
				fmt.Println(r.Case, r.Name, r.Section, r.Detail)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
	}
	topics, all := suite.Tallies(results)
	for _, t := range append(topics, all) {
		fmt.Printf("%s: %d of %d cases passed\n", t.Topic, t.Passed, t.Cases())
	}
	// Output:
	// reserved opcodes: 80 of 80 cases passed
	// limits: 13 of 13 cases passed
	// all: 93 of 93 cases passed
}
