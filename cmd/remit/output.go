package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// format is how an answer is printed. It is a flag's value.
type format string

const (
	table  format = "table"
	asJSON format = "json"
)

func (f *format) String() string { return string(*f) }

func (f *format) Type() string { return "format" }

func (f *format) Set(value string) error {
	switch format(value) {
	case table, asJSON:
		*f = format(value)
		return nil
	}
	return fmt.Errorf("must be table or json")
}

func addOutputFlag(cmd *cobra.Command, output *format) {
	*output = table
	cmd.PersistentFlags().VarP(output, "output", "o", "how answers are printed: table or json")
	offerEnv(cmd.PersistentFlags(), "output")
	// It fails only for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]cobra.Completion{string(table), string(asJSON)}, cobra.ShellCompDirectiveNoFileComp))
}

// writeJSON prints an answer as the API's JSON: the proto's names, unset fields too.
func writeJSON(w io.Writer, answer proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(answer)
	if err != nil {
		return err
	}
	// protojson's own spaces differ from build to build.
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return err
	}
	indented.WriteByte('\n')
	_, err = w.Write(withNumbers(indented.Bytes(), answer.ProtoReflect()))
	return err
}

// withNumbers makes numbers of an answer's own that protojson words as strings, for
// languages that lose digits beyond 2^53: revisions do not come that far.
func withNumbers(text []byte, answer protoreflect.Message) []byte {
	fields := answer.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch field.Kind() {
		case protoreflect.Uint64Kind, protoreflect.Int64Kind:
			key, value := fmt.Sprintf("\n  %q: ", field.Name()), answer.Get(field)
			text = bytes.Replace(text, fmt.Appendf(nil, "%s\"%v\"", key, value), fmt.Appendf(nil, "%s%v", key, value), 1)
		}
	}
	return text
}

// writeTable prints rows under a header, in aligned columns.
func writeTable(w io.Writer, header []string, rows [][]string) error {
	aligned := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(aligned, strings.Join(header, "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, text := range row {
			cells[i] = cell(text)
		}
		fmt.Fprintln(aligned, strings.Join(cells, "\t"))
	}
	return aligned.Flush()
}

// field is one label of a thing that is shown alone, with its values.
type field struct {
	label  string
	values []string
}

// writeFields prints one thing, a value a line.
func writeFields(w io.Writer, fields ...field) error {
	aligned := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		label := f.label + ":"
		if len(f.values) == 0 {
			fmt.Fprintf(aligned, "%s\t%s\n", label, cell(""))
		}
		for _, value := range f.values {
			fmt.Fprintf(aligned, "%s\t%s\n", label, cell(value))
			label = ""
		}
	}
	return aligned.Flush()
}

// instant is a time of the server's, to the second.
func instant(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format(time.RFC3339)
}

// yesNo is a flag of the server's for people.
func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// cell is a text in a table, where nothing is seen as a dash.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	return printable(text)
}

// printable keeps a text from breaking the line or commanding the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsGraphic(r):
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
