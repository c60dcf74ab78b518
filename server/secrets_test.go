package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/remit-io/remit/fsm"
	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
)

// plainForms and hashForms are the ways in which a secret, or the SHA-256 that is
// kept of it, may show.
func plainForms(secret string) []string {
	bare := strings.TrimPrefix(secret, KeyPrefix)
	forms := []string{secret, bare}
	if b, ok := decodeOpaque(bare); ok {
		forms = append(forms, string(b), hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b))
	}
	return forms
}

func hashForms(sum [32]byte) []string {
	return []string{
		string(sum[:]), hex.EncodeToString(sum[:]), strings.ToUpper(hex.EncodeToString(sum[:])),
		base64.StdEncoding.EncodeToString(sum[:]), base64.RawURLEncoding.EncodeToString(sum[:]), fmt.Sprint(sum),
	}
}

// anySecret matches what a new key's secret looks like.
var anySecret = regexp.MustCompile(KeyPrefix + "[A-Za-z0-9_-]{43}")

// A secret is in the answer that creates its key and nowhere else: in no other
// answer, header, error, log line, command or snapshot. Its SHA-256 is in the
// command that creates the key and in the state, and nobody is told it.
func TestSecretsShowOnce(t *testing.T) {
	everyWorld(t, func(t *testing.T, w *world) {
		keys := []caller{w.rootCaller(), w.stranger, w.key(project, fsm.RoleOwner), w.key(fsm.BuiltInProject, fsm.RoleOwner), w.key(fsm.BuiltInProject, ""), w.operator()}
		ended := w.key(project, "")
		w.invalidate(project, ended)
		keys = append(keys, ended)

		var told bytes.Buffer // everything that anybody was told
		ask := func(c caller, req proto.Message) {
			var header, trailer metadata.MD
			reply, err := w.call(c.ctx, req, grpc.Header(&header), grpc.Trailer(&trailer))
			// The secret of a new key is for whoever created it.
			if key := created(reply); err == nil && key != nil {
				c := w.caller(key)
				if strings.Count(fmt.Sprint(reply), c.secret) != 1 {
					t.Errorf("%T shows the secret more than once", reply)
				}
				keys = append(keys, c)
				key.Key = ""
			}
			b, marshalErr := proto.Marshal(reply)
			if marshalErr != nil {
				t.Fatal(marshalErr)
			}
			fmt.Fprintln(&told, err, header, trailer, reply)
			told.Write(b)
		}
		last := map[string]bool{"DeleteProject": true, "DeleteOrganisation": true}
		for _, again := range []bool{false, true} {
			for method, all := range samples {
				if last[method[strings.IndexByte(method, '/')+1:]] != again {
					continue
				}
				for _, s := range all {
					for _, c := range keys[:7] {
						ask(c, w.filled(s.request))
					}
				}
			}
			for _, c := range keys[:7] {
				ask(c, &organisationv1.ListAPIKeysRequest{OrganisationId: w.org(), ProjectName: fsm.BuiltInProject})
				ask(c, &organisationv1.ListAPIKeysRequest{OrganisationId: w.foreign, ProjectName: fsm.BuiltInProject})
			}
			// A key whose creation went wrong is not told of either.
			for _, fail := range []error{errUnknown, fmt.Errorf("%w: leadership moves", ErrNotApplied)} {
				w.log.hook(func(l *memoryLog) { l.after = func() error { return fail } })
				ctx, cancel := context.WithTimeout(w.ctx, 2*retryDelay)
				ask(caller{ctx: ctx}, keyRequest(w.org(), fsm.BuiltInProject))
				ask(caller{ctx: ctx}, &organisationv1.CreateOrganisationRequest{Name: "x"})
				cancel()
				w.log.hook(func(l *memoryLog) { l.after = nil })
			}
		}
		if len(keys) < 15 {
			t.Errorf("%d keys were created", len(keys))
		}

		var commands, snapshot bytes.Buffer
		w.log.hook(func(l *memoryLog) {
			for _, c := range l.attempts {
				commands.Write(c)
			}
		})
		if err := w.store.State().WriteSnapshot(&snapshot); err != nil {
			t.Fatal(err)
		}
		logged := w.logged.String()
		for i, k := range keys {
			for _, text := range plainForms(k.secret) {
				for where, all := range map[string]string{"an answer": told.String(), "the log lines": logged, "a command": commands.String(), "a snapshot": snapshot.String()} {
					if strings.Contains(all, text) {
						t.Errorf("the secret of key %d is in %s", i, where)
					}
				}
			}
			// Commands begin after Init, which made the first.
			if sum := sha256.Sum256([]byte(k.secret)); i > 0 && !bytes.Contains(commands.Bytes(), sum[:]) {
				t.Errorf("key %d: its command does not hold the SHA-256: this test looks in the wrong place", i)
			}
		}
		// The keys that nobody was told of are in the commands too.
		hashes := [][32]byte{w.init.KeyHash}
		for _, c := range w.log.commands(t) {
			switch b := c.Body.(type) {
			case *fsm.CreateKey:
				hashes = append(hashes, b.Hash)
			case *fsm.CreateOrganisation:
				hashes = append(hashes, b.KeyHash)
			}
			if text := fmt.Sprintf("%+v", c.Envelope); slices.ContainsFunc(hashForms(w.init.KeyHash), func(form string) bool { return strings.Contains(text, form) }) {
				t.Errorf("an envelope holds the SHA-256 of its key: %s", text)
			}
		}
		if len(hashes) <= len(keys) {
			t.Errorf("%d keys, %d of them told", len(hashes), len(keys))
		}
		for where, all := range map[string]string{"an answer": told.String(), "the log lines": logged} {
			for i, sum := range hashes {
				for _, form := range hashForms(sum) {
					if strings.Contains(all, form) {
						t.Errorf("the SHA-256 of key %d is in %s", i, where)
					}
				}
			}
			if found := anySecret.FindString(all); found != "" {
				t.Errorf("%s has a secret: %s", where, found)
			}
		}
	})
}

// created returns the new key in a reply, nil if the call creates none.
func created(reply proto.Message) *organisationv1.APIKey {
	switch reply := reply.(type) {
	case *organisationv1.CreateAPIKeyResponse:
		return reply.ApiKey
	case *organisationv1.CreateOrganisationResponse:
		return reply.ApiKey
	}
	return nil
}

// Secrets have 256 bits, and no two are the same.
func TestNewSecret(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		secret, hash := NewSecret()
		b, ok := decodeOpaque(strings.TrimPrefix(secret, KeyPrefix))
		if !ok || len(b) != 32 || !strings.HasPrefix(secret, KeyPrefix) {
			t.Fatalf("a secret of %d bytes", len(b))
		}
		if hash != sha256.Sum256([]byte(secret)) || seen[secret] {
			t.Fatal("a secret came twice, or its hash is another's")
		}
		seen[secret] = true
	}
}
