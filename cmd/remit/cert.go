package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/remit-io/remit/cluster"
)

const (
	authorityName = "ca"
	authorityDays = 3650
	// certificateDays is how long the certificates of nodes and clients are valid.
	certificateDays = 365
	// clockSkew is how far a clock may be behind the one that a certificate was made by.
	clockSkew = time.Hour
	maxDays   = 100 * 365
)

var (
	// certificateName is what a name may be: it becomes that of files.
	certificateName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	hostName        = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
)

// certificateFiles are the flags of all commands that make a certificate.
type certificateFiles struct {
	dir  string
	days int
}

func (f *certificateFiles) addFlags(cmd *cobra.Command, days int) {
	cmd.Flags().StringVar(&f.dir, "dir", "certs", "`folder` of the authority and what it signs, made if it is missing")
	cmd.Flags().IntVar(&f.days, "days", days, "`number` of days that the certificate is valid")
	if err := cmd.MarkFlagDirname("dir"); err != nil {
		panic(err) // the flag is defined above
	}
}

// certificate and key are the paths of the two files of a name.
func (f *certificateFiles) certificate(name string) string { return filepath.Join(f.dir, name+".pem") }

func (f *certificateFiles) key(name string) string { return filepath.Join(f.dir, name+"-key.pem") }

func newCertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Make certificates for a cluster",
		Long: `Makes an authority and the certificates that it signs, as PEM files. Nodes that
are given them encrypt what they say to each other and to clients, and let in no
node without one. It calls no node; an organisation with an authority of its own
uses that: a node's certificate is for servers and clients and has the one URI
remit://node/ID, with the id of the node.`,
		Example: `  remit cert ca
  remit cert node --name node1 --host node1.example.com --host 192.0.2.1`,
	}
	return family(cmd, newCertAuthorityCommand(), newCertNodeCommand(), newCertClientCommand())
}

func newCertAuthorityCommand() *cobra.Command {
	f := &certificateFiles{}
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make an authority, which signs the certificates of a cluster",
		Long: `Makes an authority: its certificate, ca.pem, and its key, ca-key.pem. Who has the
key can make himself a node of the cluster: keep it where certificates are made.
Use one authority for one cluster.`,
		Example: `  remit cert ca
  remit cert ca --dir /etc/remit/certs --days 1825`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			template, err := f.template("remit authority")
			if err != nil {
				return err
			}
			template.IsCA = true
			template.BasicConstraintsValid = true
			template.MaxPathLenZero = true // it signs no other authority
			template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
			if err := f.write(authorityName, template, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), `wrote %s, the authority's certificate, valid until %s: every node and client needs it
wrote %s, its key: keep it to yourself and off the nodes
next: remit cert node --name NAME --host HOST%s, once for each node
`, printable(f.certificate(authorityName)), day(template.NotAfter), printable(f.key(authorityName)), f.dirFlag(cmd))
			return err
		},
	}
	f.addFlags(cmd, authorityDays)
	return cmd
}

func newCertNodeCommand() *cobra.Command {
	f := &certificateFiles{}
	var (
		name, id string
		hosts    []string
	)
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Make the certificate of a node",
		Long: `Makes the certificate of one node, signed by the authority in the folder. The node's
id is in it: a node with a new data folder takes its id from its certificate, and one
with a data folder needs a certificate with the id of that folder, from its file
node-id or from remit members.

To renew a certificate make one with the same --id under another --name, and move
both files over the old ones. The node uses them within a second, without a restart.`,
		Example: `  remit cert node --name node1 --host node1.example.com --host 192.0.2.1
  remit cert node --name node1-next --host node1.example.com --id 6f1f4b0e-3c1a-4a65-9d2c-0c7f0f6f2d11`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			template, err := f.signedTemplate(name)
			if err != nil {
				return err
			}
			if err := addHosts(template, hosts); err != nil {
				return err
			}
			node := uuid.New()
			if cmd.Flags().Changed("id") {
				if node, err = uuid.Parse(id); err != nil || node.String() != id || node == uuid.Nil {
					return usagef("--id %q is not the id of a node, a UUID such as %s", id, uuid.New())
				}
			}
			template.URIs = append(template.URIs, cluster.NodeURI(node))
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
			if err := f.sign(name, template); err != nil {
				return err
			}
			authority := shellWord(printable(f.certificate(authorityName)))
			certificate, key := printable(f.certificate(name)), printable(f.key(name))
			_, err = fmt.Fprintf(cmd.OutOrStdout(), `wrote %s, the certificate of node %s for %s, valid until %s
wrote %s, its key: for this node alone
next: remit serve --tls-cert %s --tls-key %s --tls-ca %s
Clients call the node by %s, with --tls-ca %[8]s.
`, certificate, node, strings.Join(hosts, ", "), day(template.NotAfter), key, shellWord(certificate), shellWord(key), authority, strings.Join(hosts, " or "))
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "node", "`name` of the files, and the name in the certificate, for people")
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "host `name` or IP address by which clients call the node; can be given more than once")
	cmd.Flags().StringVar(&id, "id", "", "`id` of the node, drawn at random if not given")
	f.addFlags(cmd, certificateDays)
	return cmd
}

func newCertClientCommand() *cobra.Command {
	f := &certificateFiles{}
	var name string
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Make a certificate that is no node's",
		Long: `Makes a certificate for a client, signed by the authority in the folder. Nodes ask
their clients for a key and not for a certificate; it is of use where a proxy before
them asks for one. It opens no way in to what nodes say to each other.`,
		Example: `  remit cert client --name ci
  remit cert client --name ci --days 30`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usagef("--name is missing: whose certificate is it?")
			}
			template, err := f.signedTemplate(name)
			if err != nil {
				return err
			}
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			if err := f.sign(name, template); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s, a client's certificate, valid until %s\nwrote %s, its key: for %s alone\n",
				printable(f.certificate(name)), day(template.NotAfter), printable(f.key(name)), name)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the files and of the client")
	f.addFlags(cmd, certificateDays)
	return cmd
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// dirFlag is what a command to be advised needs to work in the same folder.
func (f *certificateFiles) dirFlag(cmd *cobra.Command) string {
	if !cmd.Flags().Changed("dir") {
		return ""
	}
	return " --dir " + shellWord(printable(f.dir))
}

// template is what all certificates have in common.
func (f *certificateFiles) template(subject string) (*x509.Certificate, error) {
	if f.days < 1 || f.days > maxDays {
		return nil, usagef("--days %d: must be 1 to %d", f.days, maxDays)
	}
	if f.dir == "" {
		return nil, usagef("--dir is empty: which folder?")
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"remit"}, CommonName: subject},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.AddDate(0, 0, f.days),
	}, nil
}

// signedTemplate is template for a certificate that the authority signs.
func (f *certificateFiles) signedTemplate(name string) (*x509.Certificate, error) {
	if !certificateName.MatchString(name) {
		return nil, usagef("--name %q: it becomes the name of files and must be 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit", name)
	}
	if name == authorityName {
		return nil, usagef("--name %s is the name of the authority's files", name)
	}
	template, err := f.template(name)
	if err == nil {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	return template, err
}

// addHosts says by which hosts the certificate's owner may be called.
func addHosts(template *x509.Certificate, hosts []string) error {
	if len(hosts) == 0 {
		return usagef("--host is missing: by which host name or IP address do clients call the node?")
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			if ip.IsUnspecified() {
				return usagef("--host %q is what a node listens on: give an address that clients call it by", host)
			}
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		if len(host) > 253 || !hostName.MatchString(host) {
			return usagef("--host %q is neither a host name nor an IP address; it goes without a port", host)
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	return nil
}

// sign makes a certificate signed by the authority of the folder.
func (f *certificateFiles) sign(name string, template *x509.Certificate) error {
	certificate, key := f.certificate(authorityName), f.key(authorityName)
	authority, err := tls.LoadX509KeyPair(certificate, key)
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{
			message: fmt.Sprintf("there is no authority in %s: %v", printable(f.dir), err),
			hint:    "remit cert ca makes one; --dir names the folder of another",
			cause:   err,
		}
	}
	if err != nil {
		return fmt.Errorf("read the authority (%s and %s): %w", certificate, key, err)
	}
	switch {
	case !authority.Leaf.IsCA:
		return fmt.Errorf("%s is not the certificate of an authority", certificate)
	case template.NotAfter.After(authority.Leaf.NotAfter):
		hint := "remit cert ca makes a new authority in another --dir"
		if left := int(time.Until(authority.Leaf.NotAfter).Hours() / 24); left > 0 {
			hint = fmt.Sprintf("--days %d at most; ", left) + hint
		}
		return &failure{
			message: fmt.Sprintf("the certificate would be valid until %s and its authority ends on %s", day(template.NotAfter), day(authority.Leaf.NotAfter)),
			hint:    hint,
		}
	}
	return f.write(name, template, &authority)
}

// write makes a key and its certificate and puts both into files of their own.
// Without an authority the certificate is signed by the key itself.
func (f *certificateFiles) write(name string, template *x509.Certificate, authority *tls.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	var signer crypto.PrivateKey = key
	parent := template
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	if err := writeNew(f.key(name), 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}); err != nil {
		return err
	}
	if err := writeNew(f.certificate(name), 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return errors.Join(err, os.Remove(f.key(name)))
	}
	return nil
}

// writeNew writes a file where there is none.
func writeNew(path string, mode fs.FileMode, block *pem.Block) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return &failure{
			message: fmt.Sprintf("%s is there already and is not overwritten", printable(path)),
			hint:    "make the new one in another --dir, or move that file away",
			cause:   err,
		}
	}
	if err != nil {
		return err
	}
	err = pem.Encode(file, block)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
