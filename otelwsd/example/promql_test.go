// promql_test.go is as much of Prometheus as the test of the dashboard needs: scrapes, and the engine that evaluates queries
// over them.

package main

import (
	"context"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// database holds what was scraped.
type database struct {
	series map[string]*promql.Series // by their labels
	engine *promql.Engine
}

func newDatabase(t *testing.T) *database {
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{}),
	})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	return &database{make(map[string]*promql.Series), engine}
}

// scrape reads the metrics of a server, as if it were a certain time.
func (d *database) scrape(t *testing.T, url string, at time.Time) {
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	text := expfmt.NewTextParser(model.LegacyValidation)
	families, err := text.TextToMetricFamilies(resp.Body)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	for name, family := range families {
		for _, metric := range family.Metric {
			base := labels.NewBuilder(labels.FromStrings("job", "wsd", "instance", "127.0.0.1:8080"))
			for _, pair := range metric.Label {
				base.Set(pair.GetName(), pair.GetValue())
			}
			add := func(name string, value float64, more ...string) {
				of := labels.NewBuilder(base.Labels()).Set(model.MetricNameLabel, name)
				for pair := range slices.Chunk(more, 2) {
					of.Set(pair[0], pair[1])
				}
				d.add(of.Labels(), at, value)
			}
			switch {
			case metric.Counter != nil:
				add(name, metric.Counter.GetValue())
			case metric.Gauge != nil:
				add(name, metric.Gauge.GetValue())
			case metric.Histogram != nil:
				for _, bucket := range metric.Histogram.Bucket {
					add(name+"_bucket", float64(bucket.GetCumulativeCount()),
						"le", strconv.FormatFloat(bucket.GetUpperBound(), 'g', -1, 64))
				}
				add(name+"_sum", metric.Histogram.GetSampleSum())
				add(name+"_count", float64(metric.Histogram.GetSampleCount()))
			default:
				t.Fatalf("%s is of the type %v", name, family.GetType())
			}
		}
	}
}

func (d *database) add(of labels.Labels, at time.Time, value float64) {
	s := d.series[of.String()]
	if s == nil {
		s = &promql.Series{Metric: of}
		d.series[of.String()] = s
	}
	s.Floats = append(s.Floats, promql.FPoint{T: at.UnixMilli(), F: value})
}

// labelsOf returns the labels that the series of a name have, nil if there are none.
func (d *database) labelsOf(name string) map[string]bool {
	var names map[string]bool
	for _, s := range d.series {
		if s.Metric.Get(model.MetricNameLabel) == name {
			s.Metric.Range(func(l labels.Label) {
				if names == nil {
					names = make(map[string]bool)
				}
				names[l.Name] = true
			})
		}
	}
	return names
}

// query evaluates a query, and leaves out what is not a number.
func (d *database) query(t *testing.T, expr string, at time.Time) promql.Vector {
	querier := &storage.MockQuerier{SelectMockFunction: d.find}
	query, err := d.engine.NewInstantQuery(context.Background(), &storage.MockQueryable{MockQuerier: querier}, nil, expr, at)
	require.NoError(t, err, expr)
	defer query.Close()
	result := query.Exec(context.Background())
	require.NoError(t, result.Err, expr)
	require.Empty(t, result.Warnings, expr)
	vector, err := result.Vector()
	require.NoError(t, err, expr)
	return slices.DeleteFunc(slices.Clone(vector), func(s promql.Sample) bool { return math.IsNaN(s.F) })
}

// find returns the series that match.
func (d *database) find(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := new(seriesSet)
	for _, s := range d.series {
		matches := func(m *labels.Matcher) bool { return m.Matches(s.Metric.Get(m.Name)) }
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !matches(m) }) {
			found.rest = append(found.rest, promql.NewStorageSeries(*s))
		}
	}
	return found
}

// seriesSet is a list of series, as a storage.SeriesSet.
type seriesSet struct {
	at   storage.Series
	rest []storage.Series
}

func (s *seriesSet) Next() bool {
	if len(s.rest) == 0 {
		return false
	}
	s.at, s.rest = s.rest[0], s.rest[1:]
	return true
}

func (s *seriesSet) At() storage.Series                { return s.at }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }
