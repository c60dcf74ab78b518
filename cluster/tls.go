package cluster

// TLS is a node's certificate, its key, and the authority that signed those of all
// nodes, as PEM files. They are read again when they change.
type TLS struct {
	CertFile, KeyFile, CAFile string
}
