package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// maxPage is the most rows that the API answers at once.
const maxPage = 100

// freshness is how fresh the state has to be that a read is answered from, as its
// flags say.
type freshness struct {
	consistent bool
	atLeast    string
}

func (f *freshness) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.consistent, "consistent", false, "see every write that was acknowledged anywhere before")
	cmd.Flags().StringVar(&f.atLeast, "at-least", "", "see at least the write that answered this `token` (-o json shows it)")
}

// fields returns the values of a request's consistency fields.
func (f *freshness) fields() (permissionsv1.Consistency, string, error) {
	switch {
	case f.consistent && f.atLeast != "":
		return 0, "", usagef("--consistent and --at-least exclude each other")
	case f.consistent:
		return permissionsv1.Consistency_FULLY_CONSISTENT, "", nil
	case f.atLeast != "":
		return permissionsv1.Consistency_AT_LEAST_AS_FRESH, f.atLeast, nil
	}
	return permissionsv1.Consistency_CONSISTENCY_UNSPECIFIED, "", nil
}

// organisationFields is fields for the organisation service, whose values have the
// same numbers.
func (f *freshness) organisationFields() (organisationv1.Consistency, string, error) {
	consistency, token, err := f.fields()
	return organisationv1.Consistency(consistency), token, err
}

// paging is which part of a list is asked for, as its flags say.
type paging struct {
	limit  int
	cursor string
}

func (p *paging) addFlags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&p.limit, "limit", maxPage, "most rows to print, 1 or more")
	cmd.Flags().StringVar(&p.cursor, "cursor", "", "go on after an earlier list, from the `cursor` it ended with")
}

// each asks for page after page until there are limit rows or no more, and returns
// the cursor to go on from, empty at the end.
func (p *paging) each(ask func(page *paginationv1.PaginationRequest) (rows int, next *paginationv1.PaginationResponse, err error)) (*paginationv1.PaginationResponse, error) {
	if p.limit < 1 {
		return nil, usagef("--limit %d: must be 1 or more", p.limit)
	}
	cursor := p.cursor
	for left := p.limit; ; {
		page := &paginationv1.PaginationRequest{Limit: proto.Int32(int32(min(left, maxPage)))}
		if cursor != "" {
			page.Cursor = proto.String(cursor)
		}
		rows, next, err := ask(page)
		if err != nil {
			return nil, err
		}
		left -= rows
		cursor = next.GetNextCursor()
		if cursor == "" || left <= 0 {
			return &paginationv1.PaginationResponse{NextCursor: cursor}, nil
		}
	}
}

// list is one list as a table.
type list struct {
	header []string
	rows   [][]string
	// nothing is what to say when there are no rows.
	nothing string
}

// print prints the rows, and on stderr what a pipe should not see: that there are
// none, or how to go on.
func (p *paging) print(cmd *cobra.Command, l list, next *paginationv1.PaginationResponse) error {
	switch {
	case len(l.rows) == 0 && p.cursor != "":
		fmt.Fprintln(cmd.ErrOrStderr(), "No more.")
	case len(l.rows) == 0:
		fmt.Fprintln(cmd.ErrOrStderr(), l.nothing)
	default:
		if err := writeTable(cmd.OutOrStdout(), l.header, l.rows); err != nil {
			return err
		}
	}
	if cursor := next.GetNextCursor(); cursor != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "There are more. To go on, add: --cursor %s\n", cursor)
	}
	return nil
}

func addSearchFlag(cmd *cobra.Command, search *string) {
	cmd.Flags().StringVar(search, "search", "", "only names that contain this `text`, in upper or lower case")
}

// given is the value of an optional field, unset for an empty text.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
