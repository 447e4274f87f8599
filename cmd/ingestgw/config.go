package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/alarm/notify"
	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/buffer/disk"
	"github.com/ingestgw/ingestgw/buffer/kafka"
	"github.com/ingestgw/ingestgw/canary"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/forward"
	"github.com/ingestgw/ingestgw/ingest"
	"github.com/ingestgw/ingestgw/internal/logs"
	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/status"
	"github.com/ingestgw/ingestgw/tenant/access"
	"github.com/ingestgw/ingestgw/tenant/directory"
	"github.com/ingestgw/ingestgw/tenant/limit"
	"github.com/ingestgw/ingestgw/tenant/token"
)

// prefix is what the variables of all settings begin with, and an underscore.
const prefix = "INGESTGW"

// config is all settings, by component.
type config struct {
	Process   processConfig
	Ingest    ingest.Config
	Access    access.Config
	Directory directory.Config
	Token     token.Config
	Limit     limit.Config
	Gather    buffer.Config
	Disk      disk.Config
	Kafka     kafka.Config
	Forward   forward.Config
	Memory    memory.Config
	Alarm     alarm.Config
	Notify    notify.Config
	Admin     status.Config
	Log       logs.Config
	Shutdown  shutdownConfig
	Vmselect  vmselectConfig
	Canary    canary.Config
}

// groups lists the components in the order in which data flows, and then what serves them all.
func (c *config) groups() []settings.Group {
	return []settings.Group{
		{Prefix: "", Title: "The process", Config: &c.Process},
		{Prefix: "INGEST", Title: "Receiving", Config: &c.Ingest},
		{Prefix: "TENANT", Title: "Tenants", Config: &c.Access},
		{Prefix: "TENANT_DIRECTORY", Title: "Directory of tenants", Config: &c.Directory},
		{Prefix: "TENANT_JWT", Title: "JSON Web Tokens", Config: &c.Token},
		{Prefix: "LIMIT", Title: "Limits of tenants", Config: &c.Limit},
		{Prefix: "BUFFER", Title: "Buffer", Config: &c.Gather},
		{Prefix: "BUFFER", Title: "Buffer on disk", Config: &c.Disk},
		{Prefix: "KAFKA", Title: "Buffer in Kafka", Config: &c.Kafka},
		{Prefix: "FORWARD", Title: "Forwarding", Config: &c.Forward},
		{Prefix: "VMSELECT", Title: "Reading back", Config: &c.Vmselect},
		{Prefix: "CANARY", Title: "Canary", Config: &c.Canary},
		{Prefix: "MEMORY", Title: "Memory", Config: &c.Memory},
		{Prefix: "ALARM", Title: "Alarms", Config: &c.Alarm},
		{Prefix: "ALARM", Title: "Telling of alarms", Config: &c.Notify},
		{Prefix: "ADMIN", Title: "Operators", Config: &c.Admin},
		{Prefix: "LOG", Title: "Logs", Config: &c.Log},
		{Prefix: "SHUTDOWN", Title: "Stopping", Config: &c.Shutdown},
	}
}

// load reads all settings from the environment. The error lists everything that is wrong; the config then holds what could be read.
func load() (*config, error) {
	c := new(config)
	err := errors.Join(settings.Load(prefix, c.groups()...), c.disagreements())
	c.Kafka.AppendTimeout = c.Gather.AppendTimeout
	return c, err
}

// disagreements says which settings of different components do not go together.
func (c *config) disagreements() error {
	var errs []error
	if c.Process.forwards() && len(c.Forward.URLs) == 0 {
		errs = append(errs, errors.New("INGESTGW_FORWARD_URLS is empty: want at least one URL, such as http://vminsert-0:8480"))
	}
	if c.Process.Buffer == bufferKafka && len(c.Kafka.Brokers) == 0 {
		errs = append(errs, errors.New("INGESTGW_KAFKA_BROKERS is empty, and INGESTGW_BUFFER=kafka: want the addresses of brokers, such as kafka-0:9092"))
	}
	if c.Process.receives() && c.Access.Mode == access.ModeDirectory && c.Directory.URL.URL == nil {
		errs = append(errs, errors.New("INGESTGW_TENANT_DIRECTORY_URL is empty, and INGESTGW_TENANT_MODE=directory: want where to ask, such as https://tenants.internal/v1/lookup"))
	}
	if c.Process.receives() && c.Access.Mode == access.ModePath && (c.Token.Configured() || c.Directory.URL.URL != nil) {
		errs = append(errs, errors.New("INGESTGW_TENANT_MODE=path believes everybody, so INGESTGW_TENANT_JWT_… and INGESTGW_TENANT_DIRECTORY_URL would "+
			"have no effect: set INGESTGW_TENANT_MODE=file or directory, or unset them"))
	}
	if c.Process.receives() && collide(c.Ingest.Listen, c.Admin.Listen) {
		errs = append(errs, fmt.Errorf("INGESTGW_INGEST_LISTEN=%s and INGESTGW_ADMIN_LISTEN=%s are the same port: give one of them another",
			c.Ingest.Listen, c.Admin.Listen))
	}
	return errors.Join(errs...)
}

// collide says whether two listeners cannot be there at the same time. Names of hosts are compared as they are written.
func collide(a, b settings.Address) bool {
	hostA, portA, _ := net.SplitHostPort(string(a)) // an Address is well-formed
	hostB, portB, _ := net.SplitHostPort(string(b))
	return portA == portB && portA != "0" && portA != "" && (hostA == hostB || unspecified(hostA) || unspecified(hostB))
}

// unspecified says whether a host stands for all addresses of the machine.
func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// diskGroup is under which name progress is kept in the disk buffer, which has one reader.
const diskGroup = "forward"

// consumers is the group that forwards.
func (c *config) consumers() string {
	if c.Process.Buffer == bufferKafka {
		return c.Kafka.Group
	}
	return diskGroup
}

// readAhead is the bytes that forwarding may read ahead: what is configured, else its share of the memory limit.
func (c *config) readAhead(state memory.State) int64 {
	if c.Forward.ReadAhead > 0 {
		return int64(c.Forward.ReadAhead)
	}
	return state.ReadAheadBudget()
}

// processConfig says what the process is for.
type processConfig struct {
	Role   string `default:"all" desc:"What the process does: all receives and forwards, receive only receives, forward only forwards. The disk buffer belongs to one process, so with it there is nothing but all."`
	Buffer string `default:"disk" desc:"Where accepted records are kept until they are forwarded: disk, a log in BUFFER_DIR; or kafka, topics of the cluster at KAFKA_BROKERS, which any number of processes share."`
}

// Values of processConfig.
const (
	roleAll     = "all"
	roleReceive = "receive"
	roleForward = "forward"

	bufferDisk  = "disk"
	bufferKafka = "kafka"
)

func (c processConfig) receives() bool { return c.Role != roleForward }
func (c processConfig) forwards() bool { return c.Role != roleReceive }

// Validate says everything that is wrong with the settings.
func (c processConfig) Validate() error {
	var errs []error
	if c.Buffer != bufferDisk && c.Buffer != bufferKafka {
		errs = append(errs, fmt.Errorf("INGESTGW_BUFFER=%s: want %s or %s", c.Buffer, bufferDisk, bufferKafka))
	}
	if c.Role != roleAll && c.Role != roleReceive && c.Role != roleForward {
		errs = append(errs, fmt.Errorf("INGESTGW_ROLE=%s: want %s, %s or %s", c.Role, roleAll, roleReceive, roleForward))
	}
	if c.Buffer == bufferDisk && (c.Role == roleReceive || c.Role == roleForward) {
		errs = append(errs, fmt.Errorf("INGESTGW_ROLE=%s: want all, because the disk buffer (INGESTGW_BUFFER=disk) can be read only by the "+
			"process that writes it, so the same process has to receive and forward", c.Role))
	}
	return errors.Join(errs...)
}

// shutdownConfig says how the process stops when it gets SIGTERM or SIGINT.
type shutdownConfig struct {
	Delay   time.Duration `default:"5s" desc:"How long requests are still accepted after SIGTERM, while the process already says that it is not ready, so that load balancers can take it out. 0s stops accepting at once."`
	Timeout time.Duration `default:"25s" desc:"Time for the whole stop, SHUTDOWN_DELAY included. What is not done by then is cut off: nothing acknowledged is lost, but more is sent again after the start. Keep it below the time after which the process is killed (30 s in Kubernetes)."`
}

// minStop is the least time left for stopping after the delay.
const minStop = time.Second

// Validate says everything that is wrong with the settings.
func (c shutdownConfig) Validate() error {
	var errs []error
	if c.Delay < 0 {
		errs = append(errs, fmt.Errorf("INGESTGW_SHUTDOWN_DELAY=%s: want 0s or more", c.Delay))
	}
	if c.Timeout < c.Delay+minStop {
		errs = append(errs, fmt.Errorf("INGESTGW_SHUTDOWN_TIMEOUT=%s: want at least %s more than INGESTGW_SHUTDOWN_DELAY=%s, which is a part of it",
			c.Timeout, minStop, c.Delay))
	}
	return errors.Join(errs...)
}

// vmselectConfig says where samples can be read, for the canary and for ingestgw check.
type vmselectConfig struct {
	URLs settings.URLs `desc:"Base URLs of vmselects, such as http://vmselect-0:8481, separated by commas; every address of a name is one by itself. From each of them the samples of the canary are read back, and the one that ingestgw check writes. Empty: neither writes any."`
}

// Validate says everything that is wrong with the settings.
func (c vmselectConfig) Validate() error {
	var errs []error
	for _, u := range c.URLs {
		if err := downstream.CheckURL(u.URL); err != nil {
			errs = append(errs, fmt.Errorf("INGESTGW_VMSELECT_URLS: %w", err))
		}
	}
	return errors.Join(errs...)
}

// sayMemory prints what memory settings are in force, since they depend on Go's own variables and on the container.
func sayMemory(w io.Writer, cfg *config) {
	state, err := memory.Decide(cfg.Memory)
	if err != nil {
		say(w, "# Memory in force: %v\n", err)
		return
	}
	say(w, "# Memory in force: %s\n", state)
	say(w, "#   for requests in flight: %s, for reading ahead of forwarding: %s\n",
		settings.Bytes(state.RequestBudget()), settings.Bytes(cfg.readAhead(state)))
}

const markdownHead = `# Settings

ingestgw reads its settings from environment variables when it starts. This page is made by ` + "`ingestgw config -markdown`" + `;
` + "`ingestgw config`" + ` prints the same with the values that are in force, secrets masked, and ` + "`ingestgw check`" + ` tries them.

A variable that begins with INGESTGW_ and is none of these is an error, except for what Kubernetes sets for a Service of that
name. All errors are reported at once. Bytes are written as a number with or without a unit (1048576, 64MiB, 5GiB), durations
as 500ms, 30s or 2m. In the descriptions the prefix INGESTGW_ is left out.
`
