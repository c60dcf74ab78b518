package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/remit-io/remit/fsm"
)

// minSnapshotInterval is the shortest that Raft takes.
const minSnapshotInterval = 5 * time.Millisecond

// serveOptions are the flags of remit serve.
type serveOptions struct {
	node            NodeConfig
	gossipAddr      string
	bootstrapExpect int
	dev             bool
	insecure        bool
	logLevel        string
}

// newServeCommand runs a node.
func newServeCommand() *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run a node in the foreground until it is told to end (Ctrl-C or SIGTERM).

Everything durable is in the data folder. A node with an empty folder starts a
cluster of its own with --bootstrap-expect 1 or --dev, once; it then prints the
root key, or takes the one in REMIT_ROOT_KEY. A node with state goes on where it
was, whatever these flags say.`,
		Example: `  remit serve --dev
  remit serve --data-dir /var/lib/remit --bootstrap-expect 1
  REMIT_ROOT_KEY=$(openssl rand -hex 32) remit serve --data-dir /var/lib/remit --bootstrap-expect 1`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	host, _ := os.Hostname()
	flags := cmd.Flags()
	flags.StringVar(&o.node.DataDir, "data-dir", "", "`folder` for everything durable, made if it is missing")
	flags.StringVar(&o.node.NodeName, "node-name", host, "`name` of the node, for people")
	flags.StringVar(&o.node.HTTPAddr, "http-addr", "127.0.0.1:7600", "`address` to serve REST and health on")
	flags.StringVar(&o.node.GRPCAddr, "grpc-addr", "127.0.0.1:7601", "`address` to serve gRPC on")
	flags.StringVar(&o.node.RaftAddr, "raft-addr", "127.0.0.1:7602", "`address` for other nodes")
	flags.StringVar(&o.gossipAddr, "gossip-addr", "127.0.0.1:7603", "`address` for finding other nodes; a cluster of one does not listen on it")
	flags.IntVar(&o.bootstrapExpect, "bootstrap-expect", 0, "start a new cluster of this `number` of nodes, which can only be 1 for now")
	flags.StringVar(&o.node.BootstrapProject, "bootstrap-project", defaultProject, "`name` of the first project of a new cluster")
	flags.StringVar(&o.node.RootKey, "root-key", "", "`secret` of the first key at bootstrap; drawn at random if not given. The variable keeps it out of the process list")
	flags.BoolVar(&o.dev, "dev", false, "one node to try things with: starts a cluster, in a temporary folder unless --data-dir is given")
	flags.BoolVar(&o.insecure, "insecure", false, "listen beyond this machine although nothing is encrypted")
	flags.Uint64Var(&o.node.SnapshotThreshold, "snapshot-threshold", 8192, "`number` of new log entries that make a snapshot due")
	flags.DurationVar(&o.node.SnapshotInterval, "snapshot-interval", 30*time.Second, "how often to look whether a snapshot is due")
	flags.Uint64Var(&o.node.TrailingLogs, "trailing-logs", 10240, "`number` of log entries to keep behind a snapshot")
	flags.StringVar(&o.logLevel, "log-level", "info", "the least `level` that is logged: debug, info, warn or error")
	flags.VisitAll(func(flag *pflag.Flag) { offerEnv(flags, flag.Name) })
	if err := cmd.MarkFlagDirname("data-dir"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (o *serveOptions) validate() error {
	if o.node.DataDir == "" && !o.dev {
		return usagef("--data-dir is missing: give a folder that lasts, or --dev to try remit in a temporary one")
	}
	if o.bootstrapExpect < 0 || o.bootstrapExpect > 1 {
		return usagef("--bootstrap-expect %d: this version runs clusters of one node", o.bootstrapExpect)
	}
	if err := fsm.ValidateProjectName(o.node.BootstrapProject); err != nil {
		return usagef("--bootstrap-project: %s", err.Message)
	}
	if o.node.RootKey != "" {
		if err := validateRootKey(o.node.RootKey); err != nil {
			return err
		}
	}
	for _, count := range []struct {
		flag  string
		value uint64
	}{{"snapshot-threshold", o.node.SnapshotThreshold}, {"trailing-logs", o.node.TrailingLogs}} {
		if count.value == 0 {
			return usagef("--%s 0: must be at least 1", count.flag)
		}
	}
	if o.node.SnapshotInterval < minSnapshotInterval {
		return usagef("--snapshot-interval %s: must be at least %s", o.node.SnapshotInterval, minSnapshotInterval)
	}
	taken := map[string]string{} // the flag that has an address; nothing listens for gossip
	for _, listen := range []struct{ flag, addr string }{
		{"http-addr", o.node.HTTPAddr}, {"grpc-addr", o.node.GRPCAddr}, {"raft-addr", o.node.RaftAddr}, {"gossip-addr", o.gossipAddr},
	} {
		host, port, err := net.SplitHostPort(listen.addr)
		if err != nil {
			return usagef("--%s %q is not HOST:PORT", listen.flag, listen.addr)
		}
		if !o.insecure && !isLoopback(host) {
			return usagef("--%s %q can be reached from other machines, and nothing is encrypted: listen on 127.0.0.1, or accept that with --insecure", listen.flag, listen.addr)
		}
		if other, ok := taken[listen.addr]; ok && port != "0" && listen.flag != "gossip-addr" {
			return usagef("--%s and --%s are both %s: give each a port of its own", other, listen.flag, listen.addr)
		}
		taken[listen.addr] = listen.flag
	}
	return nil
}

func (o *serveOptions) run(cmd *cobra.Command) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return usagef("--log-level %q is not debug, info, warn or error", o.logLevel)
	}
	stderr := cmd.ErrOrStderr()
	o.node.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	o.node.Halt = func(err error) {
		lastWord(stderr, err)
		os.Exit(exitError)
	}
	o.node.Bootstrap = o.dev || o.bootstrapExpect == 1
	if o.node.DataDir == "" {
		if o.node.DataDir, err = os.MkdirTemp("", "remit-dev-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.node.DataDir)
	}

	ctx := cmd.Context()
	n, err := OpenNode(ctx, o.node)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to end while it opened
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return &failure{
				message: err.Error(),
				hint:    "another process has this port: end it, or give another one with --http-addr, --grpc-addr or --raft-addr",
				cause:   err,
			}
		}
		return err
	}
	o.greet(cmd, n)
	select {
	case <-ctx.Done():
		n.logger.Info("draining")
	case err = <-n.serving:
	}
	if closeErr := n.Close(); err == nil {
		err = closeErr
	}
	return err
}

// greet prints the welcome. A key that was drawn is known to nobody else, so it
// goes to stderr where stdout takes nothing, such as a closed pipe, whose signal
// would end the process.
func (o *serveOptions) greet(cmd *cobra.Command, n *Node) {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	_, err := fmt.Fprint(cmd.OutOrStdout(), o.welcome(n))
	if err != nil && n.RootKey() != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "remit: cannot write to stdout: %v\nRoot key, shown this once: %s\n", err, n.RootKey())
	}
}

// welcome says where the node is, once what a person has to know. It is printed
// at once, so that whoever reads of the node reads the root key too.
func (o *serveOptions) welcome(n *Node) string {
	var w strings.Builder
	fmt.Fprintf(&w, "remit is serving: REST http://%s, gRPC %s, data in %s\n", n.HTTPAddr(), n.GRPCAddr(), o.node.DataDir)
	if !n.HasState() {
		fmt.Fprint(&w, "\nThis node belongs to no cluster yet, so it is not ready. To start one with it, end it and add --bootstrap-expect 1.\n")
		return w.String()
	}
	key := n.RootKey()
	if key != "" {
		fmt.Fprintf(&w, "\nRoot key, shown this once: %s\n", key)
	}
	if !o.dev {
		return w.String()
	}
	switch {
	case key != "":
	case o.node.RootKey != "" && isKey(n, o.node.RootKey):
		key = "$REMIT_ROOT_KEY"
	default:
		// Shown when the folder was new; another one given now is ignored.
		key = "<the root key this folder was started with>"
	}
	const addr = "127.0.0.1:7601"
	at := ""
	if n.GRPCAddr() != addr {
		at = " REMIT_ADDR=" + n.GRPCAddr()
	}
	if o.node.BootstrapProject != defaultProject {
		at += " REMIT_PROJECT=" + o.node.BootstrapProject
	}
	fmt.Fprint(&w, strings.NewReplacer("$KEY", key, "$AT", at).Replace(`
Try, in another terminal:
  export REMIT_KEY=$KEY$AT
  remit permission create document.read --description "Read documents"
  remit role create reader --permission document.read
  remit grant usr_123 --role reader --on /project/456/documents
  remit check usr_123 document.read --on /project/456/documents/789
`))
	return w.String()
}

// isKey reports whether a secret is a key of the node's cluster.
func isKey(n *Node, secret string) bool {
	_, _, ok := n.store.State().Key(sha256.Sum256([]byte(secret)))
	return ok
}
