package main_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// A reply is what a curl command got.
type reply struct {
	code int
	body string
}

// runHTTP carries out a curl command without curl. It follows no redirect.
func runHTTP(t *testing.T, command string) reply {
	t.Helper()
	request, err := parseCurl(command)
	if err != nil {
		t.Fatalf("%v, in\n%s", err, command)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, string(body)}
}

// runCurl carries out a curl command as it is, in a shell.
func runCurl(t *testing.T, command string) reply {
	t.Helper()
	quiet := strings.Replace(command, "curl ", `curl --silent --show-error --write-out '\n%{http_code}' `, 1)
	out, err := exec.Command("sh", "-c", quiet).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	end := strings.LastIndex(string(out), "\n")
	var code int
	if _, err := fmt.Sscan(string(out[end+1:]), &code); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return reply{code, string(out[:end])}
}

// parseCurl makes a request of a curl command line, as far as documentation goes.
func parseCurl(command string) (*http.Request, error) {
	words, err := shellWords(command)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 || words[0] != "curl" {
		return nil, errors.New("no curl command")
	}
	method, url, body, header := "", "", "", http.Header{}
	for rest := words[1:]; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		if !strings.HasPrefix(word, "-") {
			url = word
			continue
		}
		if len(rest) == 0 {
			return nil, fmt.Errorf("option %s has no value", word)
		}
		switch word {
		case "-X":
			method = rest[0]
		case "-d":
			body = rest[0]
		case "-H":
			name, value, _ := strings.Cut(rest[0], ": ")
			header.Add(name, value)
		default:
			return nil, fmt.Errorf("option %s is not known", word)
		}
		rest = rest[1:]
	}
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = header
	return request, nil
}

// shellWords splits a command line with quotes and continued lines, and nothing
// that a shell would expand.
func shellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	line = strings.ReplaceAll(line, "\\\n", " ")
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != '\'' && strings.ContainsRune("\\$`", r), quote == 0 && strings.ContainsRune("|&;<>()*?[]{}", r):
			return nil, fmt.Errorf("%q is for a shell", r)
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case strings.ContainsRune(" \t\n", r):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("%q is not closed", quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
