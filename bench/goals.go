//go:build linux

package main

// This file compares wsd with the best of its rivals in the same run, goal by goal.

import (
	"fmt"
	"math"
)

// goal is one claim about a case: what is measured over what it is measured against, and the limit.
type goal struct {
	work  string
	claim string
	judge func(*report) (got string, met, known bool)
}

// best is the best median among the rivals, wsd and the raw loop left out; the worst where worst is set.
func (r *report) best(workload, name, key string, higher bool) (float64, string, bool) {
	best, who := math.Inf(1), ""
	if higher {
		best = math.Inf(-1)
	}
	for _, l := range r.libraries {
		if !rival(l.name) {
			continue
		}
		value, ok := r.outcome(workload, name, l.name).median(key)
		if ok && (higher && value > best || !higher && value < best) {
			best, who = value, l.name
		}
	}
	return best, who, who != ""
}

// ratio is wsd's median over the rivals' best, described.
func (r *report) ratio(workload, name, key string, higher bool) (ratio float64, text string, known bool) {
	own, ok := r.outcome(workload, name, wsdName).median(key)
	if !ok {
		return 0, "", false
	}
	rival, who, ok := r.best(workload, name, key, higher)
	if !ok {
		return 0, "", false
	}
	return own / rival, fmt.Sprintf("%.2f times %s", own/rival, who), true
}

// atLeast is the goal that a reading which should be high is so many times the best rival's.
func atLeast(work, workload, name, key, what string, factor float64) goal {
	return goal{work, fmt.Sprintf("%s at least %.4g times the best", what, factor), func(r *report) (string, bool, bool) {
		ratio, text, known := r.ratio(workload, name, key, true)
		return text, ratio >= factor, known
	}}
}

// atMost is the goal that a reading which should be low is at most so many times the best rival's.
func atMost(work, workload, name, key, what string, factor float64) goal {
	return goal{work, fmt.Sprintf("%s at most %.4g times the best", what, factor), func(r *report) (string, bool, bool) {
		ratio, text, known := r.ratio(workload, name, key, false)
		return text, ratio <= factor, known
	}}
}

// below is the goal that a reading is at most so much.
func below(work, workload, name, key, what, format string, scale, limit float64) goal {
	return goal{work, fmt.Sprintf("%s at most "+format, what, limit), func(r *report) (string, bool, bool) {
		own, known := r.outcome(workload, name, wsdName).median(key)
		return fmt.Sprintf(format, own/scale), own/scale <= limit, known
	}}
}

// unharmed is the goal that slow readers beside them take next to nothing from the rate of the others.
func unharmed(work, without, with string) goal {
	const kept = 0.95
	return goal{work, fmt.Sprintf("rate at least %.2f times that without slow readers", kept), func(r *report) (string, bool, bool) {
		alone, ok := r.outcome("broadcast", without, wsdName).median(rateKey)
		beside, known := r.outcome("broadcast", with, wsdName).median(rateKey)
		if !ok || !known {
			return "", false, false
		}
		return fmt.Sprintf("%.2f times", beside/alone), beside/alone >= kept, true
	}}
}

// near is the goal that one way to broadcast takes little more CPU time than another.
func near(name, library, beside, what string, factor float64) goal {
	claim := fmt.Sprintf("CPU a delivery at most %.4g times %s", factor, what)
	return goal{"hub: " + name, claim, func(r *report) (string, bool, bool) {
		own, ok := r.outcome("hub", name, library).median(cpuKey)
		other, known := r.outcome("hub", name, beside).median(cpuKey)
		if !ok || !known {
			return "", false, false
		}
		return fmt.Sprintf("%.2f times", own/other), own/other <= factor, true
	}}
}

// tenth is the goal that a compressed connection takes a tenth of what takeover takes in the worst rival.
func tenth(name string) goal {
	const part = 0.1
	claim := fmt.Sprintf("memory a connection at most %.1f times takeover in the worst rival", part)
	return goal{"permessage-deflate: " + name, claim, func(r *report) (string, bool, bool) {
		own, ok := r.outcome("deflate-idle", name, wsdName).median(memoryKey)
		worst, who, known := r.best("deflate-idle", idleTakeoverCase, memoryKey, true)
		if !ok || !known {
			return "", false, false
		}
		return fmt.Sprintf("%.3f times %s", own/worst, who), own/worst <= part, true
	}}
}

// goals are those that the project set itself.
func goals() []goal {
	list := []goal{
		atLeast("echo: "+pipelinedCase, "echo", pipelinedCase, rateKey, "rate", 8),
		below("echo: "+pipelinedCase, "echo", pipelinedCase, cpuKey, "CPU a message", "%.2f µs", 1, 0.55),
		atLeast("echo: "+burstCase, "echo", burstCase, rateKey, "rate", 3),
	}
	for _, name := range []string{singleCase, singleKiBCase} {
		list = append(list,
			atMost("echo: "+name, "echo", name, cpuKey, "CPU a message", 1),
			atLeast("echo: "+name, "echo", name, rateKey, "rate", 1.05))
	}
	// On two processors the kernel's placement decides as well, see pin.
	lonely := []string{lonelyCase, lonelyKiBCase, pinnedCase, pinnedKiBCase}
	for _, name := range lonely {
		list = append(list, atMost("echo: "+name, "echo", name, p50Key, "p50", 1.05))
	}
	list = append(list,
		atLeast("large: 64 KiB", "large", large64KCase, rateKey, "rate", 1.2),
		atLeast("large: 1 MiB", "large", large1MCase, rateKey, "rate", 1.5),
		atLeast("large: 16 MiB", "large", large16MCase, rateKey, "rate", 1.5),
	)
	for _, b := range []struct{ name, slow string }{{few64Case, few64SlowCase}, {many64Case, many64SlowCase}} {
		list = append(list,
			atMost("broadcast: "+b.name, "broadcast", b.name, cpuKey, "CPU a delivery", 0.25),
			atLeast("broadcast: "+b.name, "broadcast", b.name, rateKey, "rate", 1),
			unharmed("broadcast: "+b.slow, b.name, b.slow))
	}
	for _, name := range []string{few64Case, many64Case} {
		list = append(list,
			near(name, wsdName, loopName, "a bare loop's", 1.15),
			atMost("hub: "+name, "hub", name, cpuKey, "CPU a delivery", 0.25),
			near(name, aloneName, wsdName, "that without NATS", 1.2),
			near(name, pairName, aloneName, "one node's, of two nodes together,", 2))
	}
	list = append(list,
		below("idle: "+idleCaseName, "idle", idleCaseName, memoryKey, "memory a connection", "%.2f KiB", 1<<10, 8),
		below("idle: "+idleCaseName, "idle", idleCaseName, memoryKey, "memory a connection", "%.2f KiB", 1<<10, 6),
		below("idle: "+manyIdleCase, "idle", manyIdleCase, memoryKey, "memory a connection", "%.2f KiB", 1<<10, 8),
		below("idle: "+manyIdleCase, "idle", manyIdleCase, memoryKey, "memory a connection", "%.2f KiB", 1<<10, 6),
		atMost("handshakes", "handshakes", handshakeName, cpuKey, "CPU a handshake", 1),
		atLeast("permessage-deflate: "+noTakeoverCase, "deflate", noTakeoverCase, rateKey, "rate", 1.5),
		atLeast("permessage-deflate: "+takeoverCase, "deflate", takeoverCase, rateKey, "rate", 1.5),
		atLeast("permessage-deflate: "+smallWindowCase, "deflate", smallWindowCase, rateKey, "rate", 1.5),
		tenth(idleNoTakeoverCase),
		tenth(idleTakeoverCase),
		tenth(idleSmallWindowCase),
	)
	for _, c := range lonely {
		list = append(list, atMost("client: "+c, "client", c, p50Key, "p50", 1.05))
	}
	for _, c := range []string{singleCase, singleKiBCase, pipelinedCase, burstCase, large64KCase} {
		list = append(list, atLeast("client: "+c, "client", c, rateKey, "rate", 1))
	}
	return list
}

// goalTable says of each goal whether the run met it. Goals whose cases were not measured are left out.
func (r *report) goalTable() string {
	rows := [][]string{{"work", "goal", "measured", "met"}, {"---", "---", "---", "---"}}
	for _, g := range goals() {
		got, met, known := g.judge(r)
		if !known {
			continue
		}
		rows = append(rows, []string{g.work, g.claim, got, map[bool]string{true: "yes", false: "no"}[met]})
	}
	if len(rows) == 2 {
		return "No goal was measured in this run.\n"
	}
	return markdown(rows)
}
