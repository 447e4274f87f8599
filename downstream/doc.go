// Package downstream finds the servers behind the gateway, talks to them, and reads their /metrics.
package downstream
