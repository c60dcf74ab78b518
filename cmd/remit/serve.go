package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/remit-io/remit/cluster"
	"github.com/remit-io/remit/fsm"
	"github.com/remit-io/remit/server"
)

// serveOptions are the flags of remit serve.
type serveOptions struct {
	node         NodeConfig
	tls          cluster.TLS
	gossipKey    string
	snapshotSize uint64 // MiB
	minFreeDisk  uint64 // MiB
	dev          bool
	logLevel     string
}

// newServeCommand runs a node.
func newServeCommand() *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run a node in the foreground until it is told to end (Ctrl-C or SIGTERM).

Everything durable is in the data folder. Nodes with empty folders start a
cluster together, once: each with the same --bootstrap-expect, and --join with
the gossip address of one or more of the others. One of them prints the root
key, or they all take the one in REMIT_ROOT_KEY. A node with an empty folder and
no --bootstrap-expect waits for remit join. A node with state goes on where it
was, whatever these flags say.

Beyond this machine nodes need --tls-cert, --tls-key, --tls-ca and --gossip-key;
remit cert makes certificates to try that with.`,
		Example: `  remit serve --dev
  remit serve --data-dir /var/lib/remit --bootstrap-expect 1
  remit serve --data-dir /var/lib/remit --bootstrap-expect 3 --join 10.0.0.1:7603,10.0.0.2:7603,10.0.0.3:7603 --gossip-addr ...
  remit serve --data-dir /var/lib/remit --replica --join 10.0.0.1:7603`,
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
	flags.StringVar(&o.node.GossipAddr, "gossip-addr", "127.0.0.1:7603", "`address` for finding other nodes, over UDP and TCP")
	flags.StringVar(&o.node.AdvertiseAddr, "advertise-addr", "", "`host` under which others reach the node, where that is not the one it listens on")
	flags.StringSliceVar(&o.node.Seeds, "join", nil, "gossip `addresses` of other nodes, separated by commas")
	flags.IntVar(&o.node.Expect, "bootstrap-expect", 0, "start a new cluster of this `number` of nodes, with the nodes given by --join")
	flags.BoolVar(&o.node.Replica, "replica", false, "never vote: answers reads, and adds nothing to the price of a write")
	flags.StringVar(&o.node.BootstrapProject, "bootstrap-project", defaultProject, "`name` of the first project of a new cluster")
	flags.StringVar(&o.node.RootKey, "root-key", "", "`secret` of the first key at bootstrap; drawn at random if not given. The variable keeps it out of the process list")
	flags.BoolVar(&o.dev, "dev", false, "one node to try things with: starts a cluster, in a temporary folder unless --data-dir is given")
	flags.StringVar(&o.tls.CertFile, "tls-cert", "", "PEM `file` with the node's certificate; it is read again when it changes, as the two below")
	flags.StringVar(&o.tls.KeyFile, "tls-key", "", "PEM `file` with the certificate's key")
	flags.StringVar(&o.tls.CAFile, "tls-ca", "", "PEM `file` with the authority that signed the certificates of all nodes")
	flags.StringVar(&o.gossipKey, "gossip-key", "", "`key` that encrypts gossip: 32 bytes in base64, the same on all nodes (openssl rand -base64 32). The variable keeps it out of the process list")
	flags.BoolVar(&o.node.Insecure, "insecure", false, "talk to other machines although nothing is encrypted")
	flags.DurationVar(&o.node.StalenessBound, "staleness-bound", server.DefaultStalenessBound, "how old the state behind a read may be unless the read asks for more")
	flags.Uint64Var(&o.minFreeDisk, "min-free-disk", 256, "`MiB` that must be free on the disk: below, the node hands leadership over and takes no writes")
	flags.DurationVar(&o.node.HungStoreTimeout, "hung-store-timeout", 10*time.Second, "how long a write to the log may take before the node gives up and ends")
	flags.Uint64Var(&o.node.SnapshotThreshold, "snapshot-threshold", 8192, "`number` of new log entries that make a snapshot due")
	flags.Uint64Var(&o.snapshotSize, "snapshot-size", 64, "`MiB` of new log entries that make a snapshot due")
	flags.DurationVar(&o.node.SnapshotInterval, "snapshot-interval", 30*time.Second, "how often to look whether a snapshot is due")
	flags.Uint64Var(&o.node.TrailingLogs, "trailing-logs", 10240, "`number` of log entries to keep behind a snapshot")
	flags.StringVar(&o.logLevel, "log-level", "info", "the least `level` that is logged: debug, info, warn or error")
	flags.VisitAll(func(flag *pflag.Flag) { offerEnv(flags, flag.Name) })
	if err := cmd.MarkFlagDirname("data-dir"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
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
	o.tls.Logger = o.node.Logger
	o.node.Halt = func(err error) {
		lastWord(stderr, err)
		os.Exit(exitError)
	}
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
		// Gossip's error has only the text.
		if errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			return &failure{
				message: err.Error(),
				hint:    "another process has this port: end it, or give another one with --http-addr, --grpc-addr, --raft-addr or --gossip-addr",
				cause:   err,
			}
		}
		return err
	}
	o.greet(cmd, n, o.welcome(n))
	err = o.attend(ctx, cmd, n)
	if closeErr := n.Close(); err == nil {
		err = closeErr
	}
	return err
}

// attend waits until the node has to end, and forms its cluster in the meantime.
func (o *serveOptions) attend(ctx context.Context, cmd *cobra.Command, n *Node) error {
	forming, stop := context.WithCancel(ctx)
	formed := make(chan error, 1)
	go func() {
		defer close(formed)
		if !n.formed {
			formed <- n.Form(forming)
		}
	}()
	defer func() {
		stop()
		for range formed {
		}
	}()
	for outcome := formed; ; {
		select {
		case err, ok := <-outcome:
			outcome = nil
			switch {
			case ok && err != nil && ctx.Err() == nil:
				return err
			case ok && err == nil:
				o.greet(cmd, n, o.welcomeMember(n))
			}
		case <-ctx.Done():
			n.logger.Info("draining")
			return nil
		case <-n.cluster.Left():
			n.logger.Info("the node has left its cluster; its data folder is of no use any more")
			return nil
		case err := <-n.serving:
			return err
		}
	}
}

// greet prints a text. A key that was drawn is known to nobody else, so it goes to
// stderr where stdout takes nothing, such as a closed pipe, whose signal would end
// the process.
func (o *serveOptions) greet(cmd *cobra.Command, n *Node, text string) {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	_, err := fmt.Fprint(cmd.OutOrStdout(), text)
	if err != nil && n.RootKey() != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "remit: cannot write to stdout: %v\nRoot key, shown this once: %s\n", err, n.RootKey())
	}
}

// welcome says where the node is, once what a person has to know. It is printed
// at once, so that whoever reads of the node reads the root key too.
func (o *serveOptions) welcome(n *Node) string {
	var w strings.Builder
	scheme := "http"
	if o.node.TLS != nil {
		scheme = "https"
	}
	fmt.Fprintf(&w, "remit is serving: REST %s://%s, gRPC %s, data in %s\n", scheme, n.HTTPAddr(), n.GRPCAddr(), o.node.DataDir)
	switch {
	case !n.HasState() && o.node.Expect > 1:
		fmt.Fprintf(&w, "\nThis node waits for others, to start a cluster of %d with them.\n", o.node.Expect)
		return w.String()
	case !n.HasState():
		fmt.Fprintf(&w, "\nThis node belongs to no cluster yet, so it is not ready. To make it part of one:\n"+
			"  REMIT_KEY=<an operator's key> remit join <gossip address of a member> --addr %s\n"+
			"To start one with it, end it and add --bootstrap-expect 1.\n", n.GRPCAddr())
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

// welcomeMember is said when the node has come to be a member of a cluster that is
// ready.
func (o *serveOptions) welcomeMember(n *Node) string {
	id, _ := n.cluster.ClusterID()
	text := fmt.Sprintf("\nThis node is ready, as a member of cluster %s.\n", fsm.ID(id))
	if key := n.RootKey(); key != "" {
		text += fmt.Sprintf("\nRoot key of the cluster, shown this once: %s\n", key)
	}
	return text
}

// isKey reports whether a secret is a key of the node's cluster.
func isKey(n *Node, secret string) bool {
	_, _, ok := n.store.State().Key(sha256.Sum256([]byte(secret)))
	return ok
}
