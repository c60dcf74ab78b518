package cluster

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// lookInterval is how often, at most, the files of a certificate are looked at.
	lookInterval = time.Second
	// expiryNotice is how long before its end a certificate is warned of, at every
	// reading and then every noticeInterval.
	expiryNotice   = 14 * 24 * time.Hour
	noticeInterval = 24 * time.Hour
)

// TLS is a node's certificate, its key, and the authority that signed those of all
// nodes, as PEM files. They are read again when they change; new files that cannot
// be used leave the old ones in use. Its methods may be called from any goroutine.
type TLS struct {
	CertFile, KeyFile, CAFile string
	// Logger is told of changed files; nil discards that.
	Logger *slog.Logger

	mu      sync.Mutex
	loaded  *certificates // nil before the first success
	seen    [3]os.FileInfo
	looked  time.Time
	noticed time.Time // that the certificate ends soon
}

// certificates are what the files of a TLS hold together.
type certificates struct {
	own   tls.Certificate
	roots *x509.CertPool
	node  uuid.UUID // in the own certificate
}

// NodeURI is the name by which a certificate is that of a node: its one URI in this form.
func NodeURI(id uuid.UUID) *url.URL {
	return &url.URL{Scheme: "remit", Host: "node", Path: "/" + id.String()}
}

// certifiedNode returns the id of the node that a certificate is for.
func certifiedNode(certificate *x509.Certificate) (uuid.UUID, error) {
	var found []uuid.UUID
	for _, uri := range certificate.URIs {
		if uri.Scheme != "remit" || uri.Host != "node" {
			continue
		}
		id, err := uuid.Parse(uri.Path[min(1, len(uri.Path)):])
		if err != nil || id == uuid.Nil || uri.String() != NodeURI(id).String() {
			return uuid.Nil, fmt.Errorf("the certificate of %q names the node %q, which is not remit://node/ and a UUID", certificate.Subject, uri)
		}
		found = append(found, id)
	}
	switch len(found) {
	case 0:
		return uuid.Nil, fmt.Errorf("the certificate of %q is not that of a node: no URI remit://node/ID is in it", certificate.Subject)
	case 1:
		return found[0], nil
	}
	return uuid.Nil, fmt.Errorf("the certificate of %q is that of %d nodes", certificate.Subject, len(found))
}

// Load reads the files, if that was not done yet, and says why they cannot be used.
func (t *TLS) Load() error {
	_, err := t.current()
	return err
}

// NodeID is the id of the node that the certificate is for.
func (t *TLS) NodeID() (uuid.UUID, error) {
	c, err := t.current()
	if err != nil {
		return uuid.Nil, err
	}
	return c.node, nil
}

// ServerConfig is for listeners that clients call: they see the node's
// certificate and are asked for none. NextProtos is the caller's to set.
func (t *TLS) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := t.current()
			if err != nil {
				return nil, err
			}
			return &c.own, nil
		},
	}
}

// current returns what the files hold, as of a second ago at most.
func (t *TLS) current() (*certificates, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loaded != nil && time.Since(t.looked) < lookInterval {
		return t.loaded, nil
	}
	t.looked = time.Now()
	// Looked at before they are read: what changes in between is seen next time.
	now := t.look()
	if t.loaded != nil && unchanged(t.seen, now) {
		t.noticeEnd()
		return t.loaded, nil
	}
	t.seen = now
	next, err := t.read()
	if err == nil && t.loaded != nil && next.node != t.loaded.node {
		err = fmt.Errorf("the certificate %s is now that of node %s and was that of node %s: make one with remit cert node --id %[3]s",
			t.CertFile, next.node, t.loaded.node)
	}
	if err != nil {
		if t.loaded == nil {
			return nil, err
		}
		t.log().Error("the changed TLS files cannot be used; those from before stay in use", "error", err)
		return t.loaded, nil
	}
	if t.loaded != nil {
		t.log().Info("TLS files read again", "file", t.CertFile, "expires", next.own.Leaf.NotAfter)
	}
	t.loaded, t.noticed = next, time.Time{}
	t.noticeEnd()
	return next, nil
}

// noticeEnd warns, when the files are read and once a day, of a certificate that
// ends soon. The lock is held.
func (t *TLS) noticeEnd() {
	end := t.loaded.own.Leaf.NotAfter
	if time.Until(end) >= expiryNotice || time.Since(t.noticed) < noticeInterval {
		return
	}
	t.noticed = time.Now()
	t.log().Warn("the node's certificate ends soon: replace its files, the node reads them again by itself", "file", t.CertFile, "expires", end)
}

func (t *TLS) log() *slog.Logger {
	if t.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return t.Logger
}

// look says what the files are without reading them; nil for one that is not there.
func (t *TLS) look() (now [3]os.FileInfo) {
	for i, file := range []string{t.CertFile, t.KeyFile, t.CAFile} {
		if info, err := os.Stat(file); err == nil {
			now[i] = info
		}
	}
	return now
}

func unchanged(before, now [3]os.FileInfo) bool {
	for i := range now {
		switch a, b := before[i], now[i]; {
		case a == nil || b == nil:
			if a != b {
				return false
			}
		case !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()):
			return false
		}
	}
	return true
}

// read reads the files and checks that other nodes, which trust the same
// authority, will take the certificate.
func (t *TLS) read() (*certificates, error) {
	if t.CertFile == "" || t.KeyFile == "" || t.CAFile == "" {
		return nil, errors.New("TLS needs three files: the node's certificate (--tls-cert), its key (--tls-key) and the authority of all nodes (--tls-ca)")
	}
	c := &certificates{}
	var err error
	if c.roots, err = readAuthority(t.CAFile); err != nil {
		return nil, err
	}
	if c.own, err = tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", t.CertFile, t.KeyFile, err)
	}
	chain := make([]*x509.Certificate, len(c.own.Certificate))
	for i, der := range c.own.Certificate {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("read certificate %s: %w", t.CertFile, err)
		}
	}
	c.own.Leaf = chain[0]
	if c.node, err = certifiedNode(c.own.Leaf); err != nil {
		return nil, fmt.Errorf("%s: %w: make one with remit cert node", t.CertFile, err)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := c.verify(chain, usage); err != nil {
			return nil, fmt.Errorf("certificate %s does not hold against authority %s: %w", t.CertFile, t.CAFile, err)
		}
	}
	return c, nil
}

// readAuthority reads a file of certificates. Two of them in one file let all
// nodes go from one authority to the next.
func readAuthority(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authority of all nodes: %w", err)
	}
	pool, count := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate %d of %s: %w", count+1, file, err)
		}
		pool.AddCert(certificate)
		count++
	}
	switch {
	case count == 0:
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	case bytes.Contains(b, []byte("-----BEGIN")):
		return nil, fmt.Errorf("%s is cut off or damaged behind its certificate %d", file, count)
	}
	return pool, nil
}

// verify checks a chain, leaf first, against the authority.
func (c *certificates) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// answering is for a connection that another node opened: whoever has no node
// certificate of the authority does not get through the TLS handshake.
func (c *certificates) answering() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{c.own},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    c.roots,
		// A resumed session would outlive the authority that it was made under.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := certifiedNode(state.PeerCertificates[0])
			return err
		},
	}
}

// calling is for a connection to a node.
func (c *certificates) calling(target uuid.UUID) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{c.own},
		// A node is known by its id and not by its address; VerifyConnection
		// checks what is left out by this.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if err := c.verify(state.PeerCertificates, x509.ExtKeyUsageServerAuth); err != nil {
				return fmt.Errorf("its certificate does not hold: %w", err)
			}
			id, err := certifiedNode(state.PeerCertificates[0])
			if err == nil && id != target {
				err = fmt.Errorf("its certificate is that of node %s: another node has taken over the address", id)
			}
			return err
		},
	}
}
