package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/remit-io/remit/fsm"
	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

func newSnapshotCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save, inspect and restore the whole state",
		Long: `A snapshot is the whole state of a cluster at one revision, in one file: every
organisation, project, permission, role, grant, and the keys, as digests of their
secrets. Who has it can read all of that, so keep it as you keep secrets.`,
		Example: `  remit snapshot save backup.remit
  remit snapshot restore backup.remit`,
	}
	return family(cmd,
		newSnapshotSaveCommand(c),
		newSnapshotInspectCommand(),
		newSnapshotRestoreCommand(c))
}

// backup is what there is to say of a snapshot's file.
type backup struct {
	File          string     `json:"file"`
	Size          uint64     `json:"size"`
	SHA256        string     `json:"sha256"`
	Level         uint32     `json:"level"`
	Cluster       string     `json:"cluster_id"`
	Epoch         string     `json:"epoch"`
	Revision      uint64     `json:"revision"`
	Organisations int        `json:"organisations"`
	Projects      int        `json:"projects"`
	Keys          int        `json:"keys"` // valid ones
	Permissions   int        `json:"permissions"`
	Roles         int        `json:"roles"`
	Grants        int        `json:"grants"`
	Digest        string     `json:"digest"` // of the content, whatever file it is in
	Operators     []operator `json:"operators"`
}

// operator is a key that may run the cluster.
type operator struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	Organisation string `json:"organisation"`
}

// readBackup reads and checks a snapshot's file.
func readBackup(path string) (*backup, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, &failure{message: fmt.Sprintf("cannot read the snapshot: %v", err), cause: err}
	}
	defer file.Close()
	hash := sha256.New()
	counted := &counter{r: io.TeeReader(file, hash)}
	state, err := fsm.ReadSnapshot(counted)
	if err != nil {
		hint := "the file is damaged, cut off, or something else: take another snapshot"
		if errors.Is(err, fsm.ErrUpgrade) {
			// What a later version would write, a flipped bit may have written.
			if damage := checkFile(file); damage != nil {
				err = damage
			} else {
				hint = "a later version of remit wrote it: use that one"
			}
		}
		return nil, &failure{message: fmt.Sprintf("%s is no snapshot that can be restored: %v", path, err), hint: hint, cause: err}
	}
	digest := state.Digest()
	b := &backup{
		File: path, Size: counted.n, SHA256: hex.EncodeToString(hash.Sum(nil)),
		Level: state.Level, Cluster: state.Cluster.String(), Epoch: state.Epoch.String(), Revision: state.Revision,
		Digest: hex.EncodeToString(digest[:]), Operators: []operator{},
	}
	b.count(state)
	return b, nil
}

func checkFile(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return fsm.CheckSnapshot(file, info.Size())
}

func (b *backup) count(state *fsm.State) {
	for o := range state.Organisations(fsm.ID{}) {
		b.Organisations++
		for p := range o.Projects("") {
			b.Projects++
			for k := range p.Keys("") {
				if k.Invalidated {
					continue
				}
				b.Keys++
				if state.IsOperator(k.ID) {
					b.Operators = append(b.Operators, operator{k.ID.String(), k.Name, o.Name})
				}
			}
			for range p.Permissions("") {
				b.Permissions++
			}
			for range p.Roles("") {
				b.Roles++
			}
			for principal := range p.Principals("") {
				for range p.Assignments(principal, "") {
					b.Grants++
				}
			}
		}
	}
}

// operatorLines are the operators for people.
func (b *backup) operatorLines() []string {
	lines := make([]string, len(b.Operators))
	for i, o := range b.Operators {
		lines[i] = fmt.Sprintf("%s (%s) of organisation %s", o.Name, o.ID, o.Organisation)
	}
	return lines
}

func (b *backup) print(cmd *cobra.Command, output format) error {
	if output == asJSON {
		return writeIndented(cmd.OutOrStdout(), b)
	}
	return writeFields(cmd.OutOrStdout(),
		field{"File", []string{b.File}},
		field{"Size", []string{fmt.Sprintf("%s (%d bytes)", byteSize(b.Size), b.Size)}},
		field{"SHA-256", []string{b.SHA256}},
		field{"Level", []string{strconv.FormatUint(uint64(b.Level), 10)}},
		field{"Cluster", []string{b.Cluster}},
		field{"Epoch", []string{b.Epoch}},
		field{"Revision", []string{strconv.FormatUint(b.Revision, 10)}},
		field{"Organisations", []string{strconv.Itoa(b.Organisations)}},
		field{"Projects", []string{strconv.Itoa(b.Projects)}},
		field{"Keys", []string{strconv.Itoa(b.Keys)}},
		field{"Permissions", []string{strconv.Itoa(b.Permissions)}},
		field{"Roles", []string{strconv.Itoa(b.Roles)}},
		field{"Grants", []string{strconv.Itoa(b.Grants)}},
		field{"Digest", []string{b.Digest}},
		field{"Operators", b.operatorLines()})
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n uint64
}

// Read reads and counts.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += uint64(n)
	return n, err
}

func newSnapshotInspectCommand() *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Check a snapshot and show what is in it",
		Long: `Reads a snapshot's file to its end, checks that it is whole and undamaged, and
shows what is in it. It needs no node.`,
		Example: `  remit snapshot inspect backup.remit
  remit snapshot inspect backup.remit -o json`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readBackup(args[0])
			if err != nil {
				return err
			}
			return b.print(cmd, output)
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func newSnapshotSaveCommand(c *connection) *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Save the whole state to a file",
		Long: `Saves the whole state to a file, with every write that was acknowledged before,
while the cluster serves. The file is there when it is whole, checked and on the
disk; until then it has another name. Only operators may.`,
		Example: `  remit snapshot save backup.remit
  remit snapshot save /backup/latest.remit --replace`,
		Args: exactly("FILE"),
		RunE: c.runCluster(func(cmd *cobra.Command, client clusterv1.ClusterServiceClient, args []string) error {
			if err := mayWrite(args[0], replace); err != nil {
				return err
			}
			b, err := saveSnapshot(cmd, client, args[0], replace)
			if err != nil {
				return err
			}
			if c.output == asJSON {
				return b.print(cmd, asJSON)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "saved revision %d in %s: %s, SHA-256 %s\n", b.Revision, printable(b.File), byteSize(b.Size), b.SHA256)
			return err
		}),
	}
	c.addNodeFlags(cmd)
	cmd.Flags().BoolVar(&replace, "replace", false, "replace the file if there is one")
	return cmd
}

// mayWrite refuses a file that is there already.
func mayWrite(path string, replace bool) error {
	info, err := os.Stat(path)
	switch {
	case path == "-":
		return &failure{message: "a snapshot is saved to a file, and not to stdout", hint: "name a file; ./- is one of that name"}
	case err == nil && info.IsDir():
		return &failure{message: fmt.Sprintf("%s is a folder", path), hint: "name a file in it"}
	case err == nil && !replace:
		return existsAlready(path)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	return nil
}

func existsAlready(path string) error {
	return &failure{message: fmt.Sprintf("%s exists already: nothing was saved", path), hint: "--replace replaces it, when the new one is whole"}
}

// saveSnapshot saves under another name beside the file, checks what came, and
// gives it its name.
func saveSnapshot(cmd *cobra.Command, client clusterv1.ClusterServiceClient, path string, replace bool) (*backup, error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*") // for the owner alone
	if err != nil {
		return nil, err
	}
	b, err := fetch(cmd, client, file)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = place(file.Name(), path, replace)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(file.Name()))
	}
	b.File = path
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return nil, &failure{message: fmt.Sprintf("%s is whole, and may be lost in a power cut: %v", path, err), cause: err}
	}
	return b, nil
}

// fetch brings a snapshot into a file and onto the disk, and checks it.
func fetch(cmd *cobra.Command, client clusterv1.ClusterServiceClient, file *os.File) (*backup, error) {
	if err := receive(cmd, client, file); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	return readBackup(file.Name())
}

// receive writes a snapshot as it comes. Where that fails, no more of it is to come.
func receive(cmd *cobra.Command, client clusterv1.ClusterServiceClient, file io.Writer) error {
	ctx, enough := context.WithCancel(cmd.Context())
	defer enough()
	saved := newMeter(cmd, "received", 0)
	out := bufio.NewWriterSize(file, 1<<20)
	stream, err := client.SaveSnapshot(ctx, &clusterv1.SaveSnapshotRequest{})
	var writeErr error
	_, err = follow(stream, err, func(piece *clusterv1.SaveSnapshotResponse) {
		if _, writeErr = out.Write(piece.GetData()); writeErr != nil {
			enough()
		}
		saved.add(len(piece.GetData()))
	})
	if writeErr != nil {
		return writeErr
	}
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	saved.tell()
	return nil
}

// place gives a file its name, and takes it from another that has it only if that is
// to be replaced.
func place(from, to string, replace bool) error {
	if replace {
		return os.Rename(from, to)
	}
	switch err := os.Link(from, to); {
	case err == nil:
		return os.Remove(from)
	case errors.Is(err, os.ErrExist):
		return existsAlready(to)
	}
	// Not every file system has links: a look just before is the best that is left.
	if err := mayWrite(to, false); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// syncFolder makes a new name in a folder durable.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
