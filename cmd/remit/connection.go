package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	defaultAddr    = "127.0.0.1:7601"
	defaultProject = "production"

	// maxAnswer is above gRPC's own 4 MiB: a page of roles may hold 100 times
	// 1,000 permissions.
	maxAnswer = 256 << 20
)

// connection is how the user commands reach a node, as their flags say.
type connection struct {
	addr     string
	key      string
	project  string
	timeout  time.Duration
	insecure bool
	// tls asks for an encrypted connection, and tlsCA for one to a node whose
	// certificate this file's authority signed.
	tls    bool
	tlsCA  string
	output format
	// patient is a connection for what may take long: its calls have no time limit
	// unless one is given.
	patient bool
	// projectFlag is that of the command that runs, nil if it has none.
	projectFlag *pflag.Flag
}

// addFlags gives a user command about a project, and those below it, the flags of
// the connection.
func (c *connection) addFlags(cmd *cobra.Command) {
	c.addNodeFlags(cmd)
	cmd.PersistentFlags().StringVar(&c.project, "project", defaultProject, "`name` of the project")
	offerEnv(cmd.PersistentFlags(), "project")
}

// addNodeFlags is addFlags for a command that is about no project.
func (c *connection) addNodeFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&c.addr, "addr", defaultAddr, "gRPC `address` of any node")
	flags.StringVar(&c.key, "key", "", "API `key`; the variable keeps it out of the process list")
	if c.patient {
		flags.DurationVar(&c.timeout, "timeout", 0, "how long it may take; 0 for as long as it needs")
	} else {
		flags.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long a call may take")
	}
	flags.BoolVar(&c.tls, "tls", false, "encrypt the connection; the node's certificate must be of an authority that this machine trusts")
	flags.StringVar(&c.tlsCA, "tls-ca", "", "encrypt the connection; the node's certificate must be of the authority in this PEM `file`")
	flags.BoolVar(&c.insecure, "insecure", false, "send the key unencrypted to other machines too")
	offerEnv(flags, "addr", "key", "timeout", "tls", "tls-ca", "insecure")
	addOutputFlag(cmd, &c.output)
}

// A call is the body of a user command, with a client for the node.
type call[Client any] func(cmd *cobra.Command, client Client, args []string) error

// run makes a call, which is about one project, a command's RunE.
func (c *connection) run(call call[permissionsv1.PermissionsServiceClient]) func(cmd *cobra.Command, args []string) error {
	return c.runAnyProject(ofProject(c, call))
}

// runAnyProject is run for a call that takes no project for all of them.
func (c *connection) runAnyProject(call call[permissionsv1.PermissionsServiceClient]) func(cmd *cobra.Command, args []string) error {
	return dialled(c, permissionsv1.NewPermissionsServiceClient, call)
}

// runOrganisation makes a call of the organisation service a command's RunE.
func (c *connection) runOrganisation(call call[organisationv1.OrganisationServiceClient]) func(cmd *cobra.Command, args []string) error {
	return dialled(c, organisationv1.NewOrganisationServiceClient, call)
}

// runCluster makes a call of the cluster service a command's RunE.
func (c *connection) runCluster(call call[clusterv1.ClusterServiceClient]) func(cmd *cobra.Command, args []string) error {
	return dialled(c, clusterv1.NewClusterServiceClient, call)
}

// ofProject makes a call one that needs a project.
func ofProject[Client any](c *connection, call call[Client]) call[Client] {
	return func(cmd *cobra.Command, client Client, args []string) error {
		if c.project == "" {
			return usagef("--project is empty: which project?")
		}
		return call(cmd, client, args)
	}
}

// dialled gives a call its client.
func dialled[Client any](c *connection, newClient func(grpc.ClientConnInterface) Client, call call[Client]) func(cmd *cobra.Command, args []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.projectFlag = cmd.Flag("project")
		conn, err := c.dial()
		if err != nil {
			return err
		}
		defer conn.Close()
		return call(cmd, newClient(conn), args)
	}
}

// takesProject reports whether the command that runs is told its project by a flag.
func (c *connection) takesProject() bool { return c.projectFlag != nil }

// inProject is a command to be advised, about the same project as the one that runs.
func (c *connection) inProject(command string) string {
	if !c.takesProject() || c.project == "" || c.project == defaultProject && !c.projectFlag.Changed {
		return command
	}
	return command + " --project " + shellWord(printable(c.project))
}

// print prints an answer as JSON or by the function given.
func (c *connection) print(cmd *cobra.Command, answer proto.Message, asTable func() error) error {
	if c.output == asJSON {
		return writeJSON(cmd.OutOrStdout(), answer)
	}
	return asTable()
}

func (c *connection) dial() (*grpc.ClientConn, error) {
	host, _, err := net.SplitHostPort(c.addr)
	if err != nil || host == "" || strings.Contains(c.addr, "/") {
		return nil, usagef("--addr %q is not HOST:PORT, such as %s", c.addr, defaultAddr)
	}
	if c.timeout < 0 || c.timeout == 0 && !c.patient {
		return nil, usagef("--timeout %s: must be more than 0", c.timeout)
	}
	if strings.ContainsFunc(c.key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, usagef("the key (--key, REMIT_KEY) holds a character that no key has, such as a space or a line break")
	}
	if c.key != "" && !c.encrypted() && !c.insecure && !isLoopback(host) {
		return nil, &failure{
			message: fmt.Sprintf("the key is not sent to %s: the connection is not encrypted and leaves this machine", c.addr),
			hint: "--tls-ca FILE (REMIT_TLS_CA) encrypts it, to a node that has TLS\n" +
				"--insecure (REMIT_INSECURE=true) sends it all the same; everyone on the way can read it",
		}
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(c.addr,
		grpc.WithTransportCredentials(transport),
		// Asks no DNS server how to call the node.
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("remit/"+readBuild().Version),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithUnaryInterceptor(c.intercept),
		grpc.WithStreamInterceptor(c.interceptStream))
}

// encrypted reports whether the connection is to be encrypted.
func (c *connection) encrypted() bool { return c.tls || c.tlsCA != "" }

// transport encrypts the connection and checks the node's certificate, if that is asked for.
func (c *connection) transport() (credentials.TransportCredentials, error) {
	if !c.encrypted() {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.tlsCA != "" {
		authority, err := os.ReadFile(c.tlsCA)
		if err != nil {
			return nil, usagef("--tls-ca: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authority) {
			return nil, usagef("--tls-ca: %s holds no certificate in PEM form", printable(c.tlsCA))
		}
	}
	return credentials.NewTLS(config), nil
}

// isLoopback reports whether a host is this machine, as nobody else reaches it.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// intercept sends the key and the time limit with a call and explains its error.
func (c *connection) intercept(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	limited, cancel := c.prepare(ctx)
	defer cancel()
	var node peer.Peer
	err := invoke(limited, method, request, answer, conn, append(opts, grpc.Peer(&node))...)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return &failure{message: "interrupted", cause: err}
	}
	return c.explain(err, request, node.Addr != nil)
}

// prepare is the context of a call, with the time limit and the key.
func (c *connection) prepare(ctx context.Context) (context.Context, context.CancelFunc) {
	cancel := context.CancelFunc(func() {})
	if c.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
	}
	if c.key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.key)
	}
	return ctx, cancel
}

// interceptStream is intercept for a call with many answers.
func (c *connection) interceptStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	limited, cancel := c.prepare(ctx)
	answers := &answers{connection: c, asked: ctx, cancel: cancel}
	stream, err := open(limited, desc, conn, method, append(opts, grpc.Peer(&answers.node))...)
	if err != nil {
		return nil, answers.explain(err)
	}
	answers.ClientStream = stream
	return answers, nil
}

// answers are those of one call, whose error is explained.
type answers struct {
	grpc.ClientStream
	connection *connection
	asked      context.Context
	cancel     context.CancelFunc
	request    any
	node       peer.Peer
}

// SendMsg sends the request.
func (a *answers) SendMsg(request any) error {
	a.request = request
	if err := a.ClientStream.SendMsg(request); err != nil {
		return a.explain(err)
	}
	return nil
}

// RecvMsg receives the next answer.
func (a *answers) RecvMsg(answer any) error {
	err := a.ClientStream.RecvMsg(answer)
	if err != nil {
		a.cancel()
	}
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return a.explain(err)
}

func (a *answers) explain(err error) error {
	a.cancel()
	if a.asked.Err() != nil {
		return &failure{message: "interrupted", cause: err}
	}
	return a.connection.explain(err, a.request, a.node.Addr != nil)
}

// explain says the error of a request in the server's words, with what to do about
// it. Reached is false when no connection to the node came about.
func (c *connection) explain(err error, request any, reached bool) error {
	answered := status.Convert(err)
	explained := &failure{message: printable(answered.Message()), cause: err}
	if explained.message == "" {
		explained.message = answered.Code().String()
	}
	switch code := answered.Code(); {
	case code == codes.Unavailable && strings.Contains(explained.message, "looked like an HTTP/1.1 header"):
		explained.message = fmt.Sprintf("%s answers HTTP and not gRPC", c.addr)
		explained.hint = fmt.Sprintf("is this a node's REST address? --addr (REMIT_ADDR) takes its gRPC address, such as %s", defaultAddr)
	case code == codes.Unavailable && !reached && c.encrypted() && strings.Contains(explained.message, "does not look like a TLS handshake"):
		explained.message = fmt.Sprintf("%s does not speak TLS", c.addr)
		explained.hint = "leave out --tls-ca and --tls (REMIT_TLS_CA, REMIT_TLS), or start the node with --tls-cert, --tls-key and --tls-ca"
	case code == codes.Unavailable && !reached && strings.Contains(explained.message, "failed to verify certificate"):
		_, why, _ := strings.Cut(explained.message, "failed to verify certificate: ")
		explained.message = fmt.Sprintf("the certificate of %s does not hold: %s", c.addr, strings.TrimSuffix(why, `"`))
		explained.hint = "--tls-ca (REMIT_TLS_CA) names the authority that signed it; --addr calls the node by a host that is in it"
	case code == codes.Unavailable && !reached && !c.encrypted() && strings.Contains(explained.message, "error reading server preface"):
		explained.message = fmt.Sprintf("%s ends the connection without an answer, as a node with TLS does", c.addr)
		explained.hint = "--tls-ca FILE (REMIT_TLS_CA) speaks TLS to a node whose certificate this file's authority signed, --tls to one whose certificate this machine trusts"
	case code == codes.NotFound && strings.HasPrefix(explained.message, "role "):
		explained.hint = c.inProject("remit role list") + " shows what there is"
	case code == codes.NotFound && strings.HasPrefix(explained.message, "permission "):
		explained.hint = c.inProject("remit permission list") + " shows what there is"
	case code == codes.NotFound && strings.HasPrefix(explained.message, "project "):
		explained.hint = "remit project list shows what there is"
	case code == codes.NotFound && strings.HasPrefix(explained.message, "key "):
		explained.hint = c.inProject("remit key list") + " shows what there is"
	case code == codes.NotFound && strings.HasPrefix(explained.message, "node "):
		explained.hint = "remit members shows what there is"
	case code == codes.Unavailable && strings.Contains(explained.message, "belongs to no cluster yet"):
		explained.hint = fmt.Sprintf("remit join HOST:PORT --addr %s makes it join the cluster that gossips there; --addr (REMIT_ADDR) names another node", c.addr)
	case code == codes.Unimplemented && strings.Contains(explained.message, "cluster.v1.ClusterService"):
		explained.hint = fmt.Sprintf("the node at %s runs an older version: upgrade it", c.addr)
	case code == codes.NotFound && strings.HasPrefix(explained.message, "organisation "):
		explained.hint = "remit organisation list shows what there is"
	case code == codes.PermissionDenied:
		explained.hint = c.adviseDenied(answered.Message(), request)
	case (code == codes.Unavailable || code == codes.DeadlineExceeded) && !reached:
		explained.message = fmt.Sprintf("cannot reach %s: %s", c.addr, explained.message)
		explained.hint = fmt.Sprintf("is a node running at %s? remit serve --dev starts one; --addr (REMIT_ADDR) names the gRPC address of another", c.addr)
	case code == codes.DeadlineExceeded && c.timeout > 0:
		explained.message = fmt.Sprintf("no answer from %s within %s", c.addr, c.timeout)
		explained.hint = "--timeout (REMIT_TIMEOUT) waits longer; a change may have been made all the same"
	case code == codes.DeadlineExceeded:
		explained.message = fmt.Sprintf("no answer from %s in time", c.addr)
	case code == codes.Unauthenticated && c.key == "":
		explained.message = "no API key is given"
		explained.hint = "set REMIT_KEY (or --key) to a key of the project"
	case code == codes.Unauthenticated:
		explained.hint = "is the key in REMIT_KEY (or --key) one of this cluster?"
	}
	return explained
}
