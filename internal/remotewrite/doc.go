// Package remotewrite validates, counts and rewrites remote-write messages without decoding them into structs.
//
// It speaks remote-write 1.0 (https://prometheus.io/docs/specs/prw/remote_write_spec/), decompressed. The grammar, with the
// field numbers of https://github.com/prometheus/prometheus/blob/main/prompb/remote.proto and types.proto:
//
//	WriteRequest:   timeseries = 1 (TimeSeries, repeated), metadata = 3 (MetricMetadata, repeated)
//	TimeSeries:     labels = 1 (Label, repeated), samples = 2 (Sample, repeated), exemplars = 3 (Exemplar, repeated),
//	                histograms = 4 (Histogram, repeated)
//	Label:          name = 1 (string), value = 2 (string)
//	Sample:         value = 1 (double), timestamp = 2 (int64)
//	Exemplar:       labels = 1 (Label, repeated), value = 2 (double), timestamp = 3 (int64)
//	Histogram:      see histogram.go
//	MetricMetadata: type = 1 (enum), metric_family_name = 2, help = 4, unit = 5 (strings);
//	                VictoriaMetrics' own: AccountID = 11, ProjectID = 12 (uint32)
//
// # What is accepted
//
// The wire is read as strictly as any decoder behind us reads it, so that nothing is accepted here and refused there. Fields
// come in any order; of a field that may stand once the last one counts; unknown fields are passed over. Malformed are: a
// length beyond the end of what encloses it, a varint of more than 64 bits, groups, field numbers that protobuf does not
// allow, a known field with the wrong wire type, a 32-bit number above 32 bits, metadata that is not UTF-8, and a message in
// which no known field stands (that is what a remote-write 2.0 message looks like). Numbers may be padded with zero bits to
// ten bytes, as protobuf allows. The empty message is a message without series.
//
// A series is valid when its labels are UTF-8, each has a name, no name stands twice, and __name__ has a value; when it does
// not hold both samples and histograms; and when its histograms add up (histogram.go). The order of labels is free: real
// senders do not sort them. A label without a value counts as absent, which is why an empty __name__ is a missing one. It
// still must not repeat a name: receivers disagree about which of the two holds. A series with neither samples nor histograms
// is accepted and counted; VictoriaMetrics drops it silently, as it drops all exemplars.
//
// Scan refuses a message with a series that is not valid, Sift takes out such series and keeps the others. What is malformed is
// refused as a whole by both, also when it is so within a series that is not valid.
//
// # Reserved labels and fields
//
// vminsert takes a series' tenant from the labels vm_account_id, vm_project_id, VictoriaMetrics_AccountID and
// VictoriaMetrics_ProjectID, and that of metadata from its fields 11 and 12
// (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#multitenancy-via-labels). Scan counts them, and
// everything that rewrites takes them out, with or without a value. The labels of exemplars are left alone: vminsert does not
// read exemplars.
//
// # Rewriting
//
// A message that has passed Scan or Sift can be rewritten, without being decoded, in four ways:
//
//	Strip         takes out what is reserved.
//	Edit          does so too, leaves out series, and puts tags on the others.
//	Divider       cuts a message into one for each tenant, and takes out what is reserved.
//	AppendPacked  puts messages of several tenants into one, with the tenant on each series.
//
// Split cuts a message into smaller ones and changes nothing in them. Whoever decides about a series sees it as a View, about
// metadata as a MetadataView. relabel.go has the only code that takes labels out of series or puts some in. Where labels are put,
// they come behind the last that the series has, wherever that stands. What is left keeps its bytes and its order.
package remotewrite
