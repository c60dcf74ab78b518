package server

import (
	"bufio"
	"bytes"

	"google.golang.org/grpc"

	clusterv1 "github.com/remit-io/remit/proto/cluster/v1"
)

// savePiece is how much of a snapshot one message holds.
const savePiece = 256 << 10

// SaveSnapshot streams the whole state as of the call. The state never changes,
// so the node serves and applies meanwhile.
func (s *Server) SaveSnapshot(_ *clusterv1.SaveSnapshotRequest, stream grpc.ServerStreamingServer[clusterv1.SaveSnapshotResponse]) error {
	ctx := stream.Context()
	state, err := s.readNewest(ctx)
	if err != nil {
		return err
	}
	if err := callOf(ctx).allowedAt(state); err != nil {
		return err
	}
	pieces := bufio.NewWriterSize(&snapshotPieces{stream: stream, revision: state.Revision}, savePiece)
	if err := state.Backup().WriteSnapshot(pieces); err != nil {
		return err
	}
	return pieces.Flush()
}

// snapshotPieces sends what is written to it, until the caller goes away.
type snapshotPieces struct {
	stream   grpc.ServerStreamingServer[clusterv1.SaveSnapshotResponse]
	revision uint64 // 0 once it was sent
}

// Write sends a piece.
func (p *snapshotPieces) Write(data []byte) (int, error) {
	piece := &clusterv1.SaveSnapshotResponse{Data: bytes.Clone(data), Revision: p.revision}
	p.revision = 0
	if err := p.stream.Send(piece); err != nil {
		return 0, err
	}
	return len(data), nil
}
