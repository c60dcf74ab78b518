package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/vmihailenco/msgpack/v5"
)

// commandFormat is the first byte of every command.
const commandFormat = 1

// A Kind is the second: what the command does. Kinds are append-only, since
// logs keep them.
type Kind byte

// The kinds of commands.
const (
	KindInit Kind = iota + 1
	KindPutPermission
	KindUpdatePermission
	KindDeletePermission
	KindPutRole
	KindUpdateRole
	KindDeleteRole
	KindGrant
	KindRevoke
	KindSweep
	KindCreateOrganisation
	KindUpdateOrganisation
	KindDeleteOrganisation
	KindCreateProject
	KindDeleteProject
	KindCreateKey
	KindInvalidateKey
	KindSweepKeys
	KindRaiseLevel
	KindCheckpoint
	KindBeginRestore
	KindRestoreChunk
	KindCommitRestore
)

// An Envelope says who asked for a command, from where and when, and which
// rights that needs. It is part of the command, so every node knows the same.
type Envelope struct {
	Request  ID            `msgpack:"request"` // repeated when the command is retried
	Key      ID            `msgpack:"key"`     // the zero ID for the cluster itself
	Actor    string        `msgpack:"actor"`   // principal of the key
	Peer     string        `msgpack:"peer"`
	Time     int64         `msgpack:"time"` // at the proposer, Unix milliseconds
	Requires []Requirement `msgpack:"requires"`
	// Content is a fingerprint of the request as the caller sent it: what else comes
	// under the same request id is no repetition. From level 2 on.
	Content uint64 `msgpack:"content,omitempty"`
}

// A Requirement is a management permission on the URIs that begin with Prefix
// and go on with one of Suffixes.
type Requirement struct {
	Permission string   `msgpack:"permission"`
	Prefix     string   `msgpack:"prefix"`
	Suffixes   []string `msgpack:"suffixes"`
}

// A Scope names the project that a command changes.
type Scope struct {
	Organisation ID `msgpack:"organisation"`
	Project      ID `msgpack:"project"`
}

func (s Scope) within() Scope { return s }

// A Body is what a command does, one type for each kind.
type Body interface {
	kind() Kind
	apply(b *batch) Result
}

// Init is the first command of a cluster.
type Init struct {
	Cluster ID       `msgpack:"cluster"`
	Epoch   ID       `msgpack:"epoch"`
	Secret  [32]byte `msgpack:"secret"`
	// Level is that of the new cluster; 1 if it is absent.
	Level uint32 `msgpack:"level,omitempty"`
	// The first organisation. Its first key is the first operator.
	CreateOrganisation
}

// PutPermission creates a permission or, if its name is taken, gives the one
// that has it a new description; the ID is then not used.
type PutPermission struct {
	Scope
	ID          ID     `msgpack:"id"`
	Name        string `msgpack:"name"`
	Description string `msgpack:"description"`
}

// UpdatePermission replaces the description, and the name unless it is empty.
type UpdatePermission struct {
	Scope
	ID          ID     `msgpack:"id"`
	Name        string `msgpack:"name"`
	Description string `msgpack:"description"`
}

// DeletePermission ends a permission everywhere, at once for checks.
type DeletePermission struct {
	Scope
	ID ID `msgpack:"id"`
}

// PutRole creates a role or, if its name is taken, replaces what the one that
// has it holds; the ID is then not used.
type PutRole struct {
	Scope
	ID          ID     `msgpack:"id"`
	Name        string `msgpack:"name"`
	Description string `msgpack:"description"`
	Permissions []ID   `msgpack:"permissions"`
}

// UpdateRole replaces description and permissions, and the name unless it is
// empty.
type UpdateRole struct {
	Scope
	ID          ID     `msgpack:"id"`
	Name        string `msgpack:"name"`
	Description string `msgpack:"description"`
	Permissions []ID   `msgpack:"permissions"`
}

// DeleteRole ends a role everywhere, at once for checks.
type DeleteRole struct {
	Scope
	ID ID `msgpack:"id"`
}

// Grant adds permissions and roles to an assignment.
type Grant struct {
	Scope
	Principal   string `msgpack:"principal"`
	URI         string `msgpack:"uri"`
	Permissions []ID   `msgpack:"permissions"`
	Roles       []ID   `msgpack:"roles"`
}

// Revoke takes permissions and roles out of an assignment.
type Revoke struct {
	Scope
	Principal   string `msgpack:"principal"`
	URI         string `msgpack:"uri"`
	Permissions []ID   `msgpack:"permissions"`
	Roles       []ID   `msgpack:"roles"`
}

// Sweep takes one bounded step in removing what is dead from a project.
type Sweep struct {
	Scope
	Limit int `msgpack:"limit"` // how many permissions and roles to look at, in roles and assignments
}

// CreateOrganisation creates an organisation with the built-in project, one
// other, and a key that owns it.
type CreateOrganisation struct {
	Organisation ID       `msgpack:"organisation"`
	Name         string   `msgpack:"name"`
	BuiltIn      ID       `msgpack:"built_in"` // id of the built-in project
	Project      ID       `msgpack:"project"`
	ProjectName  string   `msgpack:"project_name"`
	Key          ID       `msgpack:"key"`
	KeyName      string   `msgpack:"key_name"`
	KeyHash      [32]byte `msgpack:"key_hash"`
}

// UpdateOrganisation renames an organisation.
type UpdateOrganisation struct {
	Organisation ID     `msgpack:"organisation"`
	Name         string `msgpack:"name"`
}

func (c *UpdateOrganisation) within() Scope { return Scope{Organisation: c.Organisation} }

// DeleteOrganisation ends an organisation with all that belongs to it.
type DeleteOrganisation struct {
	Organisation ID `msgpack:"organisation"`
}

// CreateProject creates a project. The scope's project is its id.
type CreateProject struct {
	Scope
	Name string `msgpack:"name"`
}

// DeleteProject ends a project with all that belongs to it: its keys, and the
// grants of management permissions on it.
type DeleteProject struct{ Scope }

// CreateKey creates a key of a project, and grants it a role of the built-in
// project on the organisation.
type CreateKey struct {
	Scope
	ID       ID       `msgpack:"id"`
	Name     string   `msgpack:"name"`
	Hash     [32]byte `msgpack:"hash"`
	Role     ID       `msgpack:"role"` // none if zero
	Operator bool     `msgpack:"operator"`
}

// InvalidateKey ends a key.
type InvalidateKey struct {
	Scope
	ID ID `msgpack:"id"`
}

// SweepKeys takes one bounded step in removing the keys of deleted projects.
type SweepKeys struct {
	Limit int `msgpack:"limit"` // how many keys to look at, and grants of theirs to remove
}

func (*Init) kind() Kind               { return KindInit }
func (*PutPermission) kind() Kind      { return KindPutPermission }
func (*UpdatePermission) kind() Kind   { return KindUpdatePermission }
func (*DeletePermission) kind() Kind   { return KindDeletePermission }
func (*PutRole) kind() Kind            { return KindPutRole }
func (*UpdateRole) kind() Kind         { return KindUpdateRole }
func (*DeleteRole) kind() Kind         { return KindDeleteRole }
func (*Grant) kind() Kind              { return KindGrant }
func (*Revoke) kind() Kind             { return KindRevoke }
func (*Sweep) kind() Kind              { return KindSweep }
func (*CreateOrganisation) kind() Kind { return KindCreateOrganisation }
func (*UpdateOrganisation) kind() Kind { return KindUpdateOrganisation }
func (*DeleteOrganisation) kind() Kind { return KindDeleteOrganisation }
func (*CreateProject) kind() Kind      { return KindCreateProject }
func (*DeleteProject) kind() Kind      { return KindDeleteProject }
func (*CreateKey) kind() Kind          { return KindCreateKey }
func (*InvalidateKey) kind() Kind      { return KindInvalidateKey }
func (*SweepKeys) kind() Kind          { return KindSweepKeys }
func (*RaiseLevel) kind() Kind         { return KindRaiseLevel }
func (*Checkpoint) kind() Kind         { return KindCheckpoint }
func (*BeginRestore) kind() Kind       { return KindBeginRestore }
func (*RestoreChunk) kind() Kind       { return KindRestoreChunk }
func (*CommitRestore) kind() Kind      { return KindCommitRestore }

func newBody(kind Kind) (Body, bool) {
	switch kind {
	case KindInit:
		return new(Init), true
	case KindPutPermission:
		return new(PutPermission), true
	case KindUpdatePermission:
		return new(UpdatePermission), true
	case KindDeletePermission:
		return new(DeletePermission), true
	case KindPutRole:
		return new(PutRole), true
	case KindUpdateRole:
		return new(UpdateRole), true
	case KindDeleteRole:
		return new(DeleteRole), true
	case KindGrant:
		return new(Grant), true
	case KindRevoke:
		return new(Revoke), true
	case KindSweep:
		return new(Sweep), true
	case KindCreateOrganisation:
		return new(CreateOrganisation), true
	case KindUpdateOrganisation:
		return new(UpdateOrganisation), true
	case KindDeleteOrganisation:
		return new(DeleteOrganisation), true
	case KindCreateProject:
		return new(CreateProject), true
	case KindDeleteProject:
		return new(DeleteProject), true
	case KindCreateKey:
		return new(CreateKey), true
	case KindInvalidateKey:
		return new(InvalidateKey), true
	case KindSweepKeys:
		return new(SweepKeys), true
	case KindRaiseLevel:
		return new(RaiseLevel), true
	case KindCheckpoint:
		return new(Checkpoint), true
	case KindBeginRestore:
		return new(BeginRestore), true
	case KindRestoreChunk:
		return new(RestoreChunk), true
	case KindCommitRestore:
		return new(CommitRestore), true
	}
	return nil, false
}

// A Command is what the log replicates.
type Command struct {
	Envelope Envelope
	Body     Body
}

// encoded is a command's msgpack map. A map and not an array, so that a later
// version can add a field and still tell what an older one wrote.
type encoded struct {
	Envelope *Envelope `msgpack:"envelope"`
	Body     any       `msgpack:"body"`
}

// decoded is the same map, with a body whose type is yet to be chosen.
type decoded struct {
	Envelope Envelope           `msgpack:"envelope"`
	Body     msgpack.RawMessage `msgpack:"body"`
}

// ErrUpgrade marks a command or snapshot of a later version. A node must not
// skip it: its state would differ from the others'.
var ErrUpgrade = errors.New("upgrade this node")

// Encode returns the command as the log keeps it: [format][kind][msgpack map]
// [CRC-32C of all that], MaxCommandBytes at most. The same command always gives
// the same bytes. The checksum is there because logs have none of their own: a
// flipped bit must stop a node, not become another grant.
func (c *Command) Encode() ([]byte, error) {
	if err := knownLevel(c.Body); err != nil {
		return nil, fmt.Errorf("encode a command of kind %d: %w", c.Body.kind(), err)
	}
	b := bytes.NewBuffer([]byte{commandFormat, byte(c.Body.kind())})
	if err := msgpack.NewEncoder(b).Encode(&encoded{&c.Envelope, c.Body}); err != nil {
		return nil, fmt.Errorf("encode a command of kind %d: %w", c.Body.kind(), err)
	}
	if n := b.Len() + checksumBytes; n > MaxCommandBytes {
		return nil, errorf(CodeInvalidArgument, "the request makes a command of %d bytes, %d at most: split it", n, MaxCommandBytes)
	}
	return seal(b.Bytes()), nil
}

const checksumBytes = 4

// seal appends the checksum.
func seal(command []byte) []byte {
	return binary.BigEndian.AppendUint32(command, crc32.Checksum(command, castagnoli))
}

// DecodeCommand reads what Encode wrote. A format, kind or field that this
// version does not know is ErrUpgrade, and so is a level.
func DecodeCommand(data []byte) (*Command, error) {
	if len(data) < 2+checksumBytes {
		return nil, fmt.Errorf("a command of %d bytes is cut off", len(data))
	}
	if data[0] != commandFormat {
		return nil, fmt.Errorf("command format %d is not known: %w", data[0], ErrUpgrade)
	}
	data, sum := data[:len(data)-checksumBytes], binary.BigEndian.Uint32(data[len(data)-checksumBytes:])
	if found := crc32.Checksum(data, castagnoli); found != sum {
		return nil, fmt.Errorf("a command of kind %d is damaged: its checksum is %08x, and the log says %08x", data[1], found, sum)
	}
	body, ok := newBody(Kind(data[1]))
	if !ok {
		return nil, fmt.Errorf("command kind %d is not known: %w", data[1], ErrUpgrade)
	}
	var parts decoded
	err := decode(data[2:], &parts)
	if err == nil {
		err = decode(parts.Body, body)
	}
	if err == nil {
		err = knownLevel(body)
	}
	if err != nil {
		return nil, fmt.Errorf("decode a command of kind %d: %w", data[1], err)
	}
	return &Command{parts.Envelope, body}, nil
}
