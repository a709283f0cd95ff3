package ociotel

import (
	"maps"
	"slices"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// maxMore is the maximum number of attributes of a measurement beside those of all.
const maxMore = 3

// measured tells measurements apart, those of repositories aside. There are few: all values are
// words of this library.
type measured struct {
	errorType string // empty without an error
	more      [maxMore]attribute.KeyValue
}

// attributeSets has the attributes of each kind of measurement that was made, since to make them
// takes longer than to measure. The zero value is ready to use.
type attributeSets struct {
	made atomic.Pointer[map[measured]metric.MeasurementOption] // which does not change
}

// of returns the attributes of m, which it makes the first time.
func (s *attributeSets) of(m measured, make func() metric.MeasurementOption) metric.MeasurementOption {
	for {
		made := s.made.Load()
		var next map[measured]metric.MeasurementOption
		if made != nil {
			if option, ok := (*made)[m]; ok {
				return option
			}
			next = maps.Clone(*made)
		} else {
			next = map[measured]metric.MeasurementOption{}
		}
		next[m] = make()
		s.made.CompareAndSwap(made, &next)
	}
}

// attributes returns the attributes of a measurement: those of all, the repository if that is
// wanted, the type of the error if there is one, and up to maxMore more.
func (s *settings) attributes(repo string, err error, more ...attribute.KeyValue) metric.MeasurementOption {
	var m measured
	copy(m.more[:], more)
	if err != nil {
		m.errorType = errorType(err)
	}
	if s.repositories && repo != "" {
		return s.option(m, semconv.ContainerImageName(repo))
	}
	return s.sets.of(m, func() metric.MeasurementOption { return s.option(m) })
}

// option returns the attributes of m, and those of its repository.
func (s *settings) option(m measured, repo ...attribute.KeyValue) metric.MeasurementOption {
	attrs := slices.Concat(s.common, repo)
	for _, a := range m.more {
		if a.Valid() {
			attrs = append(attrs, a)
		}
	}
	if m.errorType != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(m.errorType))
	}
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}
