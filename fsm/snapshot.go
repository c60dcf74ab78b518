package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/vmihailenco/msgpack/v5"
)

// A snapshot is the magic, the format, level, epoch and revision; then records
// in key order, each [kind][length as uvarint][msgpack map]; then a trailer with
// the number of records and the CRC-32C of everything before it.
const (
	snapshotMagic  = "remit-snapshot\n"
	snapshotFormat = 1
	maxRecordBytes = 4 << 20
)

type recordKind byte

const (
	recordCluster recordKind = iota + 1
	recordKey
	recordOrganisation
	recordProject    // of the organisation before it
	recordPermission // of the project before it, as all that follow
	recordRole
	recordAssignment
	recordRequests // from level 2 on, as those that follow
	recordRestore
	recordChunk
	recordTrailer recordKind = 0xff
)

type clusterRecord struct {
	Cluster   ID       `msgpack:"cluster"`
	Secret    [32]byte `msgpack:"secret"`
	Operators []ID     `msgpack:"operators"`
	KeySweep  keySweep `msgpack:"key_sweep"`
}

type keyRecord struct {
	ID           ID       `msgpack:"id"`
	Name         string   `msgpack:"name"`
	Hash         [32]byte `msgpack:"hash"`
	Organisation ID       `msgpack:"organisation"`
	Project      string   `msgpack:"project"`
	ProjectID    ID       `msgpack:"project_id"`
	Created      int64    `msgpack:"created"`
	Invalidated  bool     `msgpack:"invalidated"`
}

type organisationRecord struct {
	ID      ID       `msgpack:"id"`
	Name    string   `msgpack:"name"`
	Created int64    `msgpack:"created"`
	Updated int64    `msgpack:"updated"`
	Ending  []string `msgpack:"ending"`
}

// projectRecord is followed by permissions and roles, except for the built-in
// project, whose own every version knows.
type projectRecord struct {
	ID      ID     `msgpack:"id"`
	Name    string `msgpack:"name"`
	Created int64  `msgpack:"created"`
	Numbers number `msgpack:"numbers"`
	Sweep   sweep  `msgpack:"sweep"`
}

type permissionRecord struct {
	ID          ID     `msgpack:"id"`
	Name        string `msgpack:"name"`
	Description string `msgpack:"description"`
	Number      number `msgpack:"number"`
}

type roleRecord struct {
	ID          ID       `msgpack:"id"`
	Name        string   `msgpack:"name"`
	Description string   `msgpack:"description"`
	Number      number   `msgpack:"number"`
	Permissions []number `msgpack:"permissions"`
}

type assignmentRecord struct {
	Principal string `msgpack:"principal"`
	URI       string `msgpack:"uri"`
	Rights    []byte `msgpack:"rights"`
}

type trailerRecord struct {
	Records  uint64 `msgpack:"records"`
	Checksum uint32 `msgpack:"checksum"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A snapshotWriter streams records. Its first error sticks.
type snapshotWriter struct {
	w       *bufio.Writer
	sum     hash.Hash32
	records uint64
	buffer  bytes.Buffer
	encoder *msgpack.Encoder
	err     error
}

// WriteSnapshot streams the state. It may run while later commands are applied.
func (s *State) WriteSnapshot(w io.Writer) error {
	out := &snapshotWriter{sum: crc32.New(castagnoli)}
	buffered := bufio.NewWriterSize(w, 64<<10)
	out.w = bufio.NewWriterSize(io.MultiWriter(buffered, out.sum), 4<<10)
	out.encoder = msgpack.NewEncoder(&out.buffer)
	out.header(s)
	out.record(recordCluster, &clusterRecord{s.Cluster, s.Secret, s.operators, s.keySweep})
	for k := range s.keys.ids.from("") {
		out.record(recordKey, &keyRecord{k.ID, k.Name, k.Hash, k.Organisation, k.Project, k.ProjectID, k.Created, k.Invalidated})
	}
	for o := range s.organisations.from("") {
		out.record(recordOrganisation, &organisationRecord{o.ID, o.Name, o.Created, o.Updated, o.ending})
		for p := range o.Projects("") {
			out.project(p)
		}
	}
	out.requests(&s.requests)
	out.restore(s.restore)
	out.flush()
	out.record(recordTrailer, &trailerRecord{out.records, out.sum.Sum32()})
	out.flush()
	if out.err == nil {
		out.err = buffered.Flush()
	}
	return out.err
}

func (w *snapshotWriter) header(s *State) {
	b := append([]byte(snapshotMagic), snapshotFormat)
	b = binary.BigEndian.AppendUint32(b, s.Level)
	b = append(b, s.Epoch[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Revision)
	_, w.err = w.w.Write(b)
}

func (w *snapshotWriter) project(p *Project) {
	w.record(recordProject, &projectRecord{p.ID, p.Name, p.Created, p.numbers, p.sweep})
	if !p.IsBuiltIn() {
		w.catalogue(p)
	}
	for principal := range p.assignments.Principals("") {
		for uri, value := range p.assignments.Held(principal, "") {
			w.record(recordAssignment, &assignmentRecord{principal, uri, []byte(value)})
			if w.err != nil {
				return
			}
		}
	}
}

func (w *snapshotWriter) catalogue(p *Project) {
	for x := range p.Permissions("") {
		w.record(recordPermission, &permissionRecord{x.ID, x.Name, x.Description, x.number})
	}
	for r := range p.Roles("") {
		w.record(recordRole, &roleRecord{r.ID, r.Name, r.Description, r.number, r.permissions})
	}
}

func (w *snapshotWriter) record(kind recordKind, v any) {
	if w.err != nil {
		return
	}
	w.buffer.Reset()
	if w.err = w.encoder.Encode(v); w.err != nil {
		return
	}
	head := binary.AppendUvarint([]byte{byte(kind)}, uint64(w.buffer.Len()))
	if _, w.err = w.w.Write(head); w.err == nil {
		_, w.err = w.w.Write(w.buffer.Bytes())
	}
	w.records++
}

func (w *snapshotWriter) flush() {
	if w.err == nil {
		w.err = w.w.Flush()
	}
}

// ReadSnapshot builds the state that WriteSnapshot wrote. It fails, with
// ErrUpgrade where a later version wrote it, rather than return less than all.
func ReadSnapshot(r io.Reader) (*State, error) {
	in := &snapshotReader{r: bufio.NewReaderSize(r, 64<<10), sum: crc32.New(castagnoli)}
	b := &restore{}
	if err := in.header(&b.state); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	for {
		sum := in.sum.Sum32()
		kind, data, err := in.record()
		if err != nil {
			return nil, fmt.Errorf("read snapshot: record %d: %w", in.records, err)
		}
		if kind == recordTrailer {
			// Compared as bytes: the checksum does not cover the trailer itself.
			trailer, err := msgpack.Marshal(&trailerRecord{in.records - 1, sum})
			if err != nil || !bytes.Equal(data, trailer) {
				return nil, fmt.Errorf("read snapshot: it is damaged: its trailer does not say %d records with checksum %08x", in.records-1, sum)
			}
			if _, err := in.r.ReadByte(); err == nil {
				return nil, fmt.Errorf("read snapshot: something follows the trailer")
			} else if err != io.EOF {
				return nil, fmt.Errorf("read snapshot: behind the trailer: %w", err)
			}
			return b.finish()
		}
		if err := b.add(kind, data); err != nil {
			return nil, fmt.Errorf("read snapshot: record %d: %w", in.records, err)
		}
	}
}

// CheckSnapshot fails if a snapshot, of whatever version, is damaged or cut off. It
// tells damage from what a later version wrote: every version ends a snapshot with
// the same trailer.
func CheckSnapshot(r io.ReaderAt, size int64) error {
	frame, err := msgpack.Marshal(&trailerRecord{}) // as long for all values
	if err != nil {
		return err
	}
	head := binary.AppendUvarint([]byte{byte(recordTrailer)}, uint64(len(frame)))
	end := make([]byte, len(head)+len(frame))
	before := size - int64(len(end))
	if before < 0 {
		return fmt.Errorf("check snapshot: it is cut off: it has %d bytes", size)
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, before)); err != nil {
		return fmt.Errorf("check snapshot: %w", err)
	}
	if _, err := io.ReadFull(io.NewSectionReader(r, before, int64(len(end))), end); err != nil {
		return fmt.Errorf("check snapshot: its trailer: %w", err)
	}
	var trailer trailerRecord
	if !bytes.HasPrefix(end, head) || msgpack.Unmarshal(end[len(head):], &trailer) != nil {
		return fmt.Errorf("check snapshot: it is damaged: it does not end with a trailer")
	}
	if trailer.Checksum != sum.Sum32() {
		return fmt.Errorf("check snapshot: it is damaged: its checksum is %08x, its trailer says %08x", sum.Sum32(), trailer.Checksum)
	}
	return nil
}

// snapshotLevel returns the level of a snapshot, which may be one that this
// version does not know; 0 if it is no snapshot.
func snapshotLevel(r io.Reader) uint32 {
	var s State
	in := &snapshotReader{r: bufio.NewReader(r), sum: crc32.New(castagnoli)}
	in.header(&s) // what is wrong with it shows when it is read
	return s.Level
}

type snapshotReader struct {
	r       *bufio.Reader
	sum     hash.Hash32
	records uint64
	buffer  []byte
}

func (r *snapshotReader) header(s *State) error {
	var b [len(snapshotMagic) + 1 + 4 + 16 + 8]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return err
	}
	r.sum.Write(b[:])
	rest := b[len(snapshotMagic):]
	if string(b[:len(snapshotMagic)]) != snapshotMagic {
		return fmt.Errorf("this is not a snapshot of remit")
	}
	if rest[0] != snapshotFormat {
		return fmt.Errorf("snapshot format %d is not known: %w", rest[0], ErrUpgrade)
	}
	if s.Level = binary.BigEndian.Uint32(rest[1:]); s.Level > MaxLevel {
		return fmt.Errorf("the snapshot is of level %d, %d at most is known: %w", s.Level, MaxLevel, ErrUpgrade)
	}
	copy(s.Epoch[:], rest[5:])
	s.Revision = binary.BigEndian.Uint64(rest[21:])
	return nil
}

// record returns the next record; its data is valid until the next call.
func (r *snapshotReader) record() (recordKind, []byte, error) {
	r.records++
	kind, err := r.r.ReadByte()
	if err != nil {
		return 0, nil, unexpectedEOF(err)
	}
	n, err := binary.ReadUvarint(r.r)
	if err != nil {
		return 0, nil, unexpectedEOF(err)
	}
	if n > maxRecordBytes {
		return 0, nil, fmt.Errorf("%d bytes, %d at most", n, maxRecordBytes)
	}
	if uint64(cap(r.buffer)) < n {
		r.buffer = make([]byte, n)
	}
	data := r.buffer[:n]
	if _, err := io.ReadFull(r.r, data); err != nil {
		return 0, nil, unexpectedEOF(err)
	}
	r.sum.Write(binary.AppendUvarint([]byte{kind}, n))
	r.sum.Write(data)
	return recordKind(kind), data, nil
}

func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
