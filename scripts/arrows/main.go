// Arrows checks which room of the module imports which: run it in the
// repository's root. It prints one line for each import that breaks a rule and
// fails if there is any.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	findings, packages, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "arrows:", err)
		os.Exit(2)
	}
	for _, finding := range findings {
		fmt.Println(finding)
	}
	if len(findings) > 0 {
		os.Exit(1)
	}
	fmt.Printf("arrows: %d packages keep to the rules\n", packages)
}

func run() (findings []string, packages int, err error) {
	files, packages, err := listFiles()
	if err != nil {
		return nil, 0, err
	}
	for _, file := range files {
		findings = append(findings, file.check()...)
	}
	return findings, packages, nil
}

// listFiles returns every Go file of the module, tests included, with its imports.
func listFiles() (files []sourceFile, packages int, err error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, 0, err
	}
	list := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Dir,Module,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	list.Stderr = os.Stderr
	output, err := list.StdoutPipe()
	if err != nil {
		return nil, 0, err
	}
	if err := list.Start(); err != nil {
		return nil, 0, err
	}
	decoder := json.NewDecoder(output)
	for {
		var p struct {
			ImportPath, Name, Dir                                        string
			Module                                                       struct{ Path string }
			GoFiles, CgoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, 0, errors.Join(fmt.Errorf("reading go list: %w", err), list.Wait())
		}
		packages++
		for _, names := range [][]string{p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles} {
			for _, name := range names {
				path, err := filepath.Rel(root, filepath.Join(p.Dir, name))
				if err != nil {
					return nil, 0, err
				}
				file, err := parse(path, p.Module.Path)
				if err != nil {
					return nil, 0, err
				}
				files = append(files, file)
			}
		}
	}
	if err := list.Wait(); err != nil {
		return nil, 0, fmt.Errorf("go list: %w", err)
	}
	return files, packages, nil
}

// parse reads the package name and the imports of one file.
func parse(path, module string) (sourceFile, error) {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, path, nil, parser.ImportsOnly)
	if err != nil {
		return sourceFile{}, err
	}
	file := sourceFile{path: filepath.ToSlash(path), name: syntax.Name.Name}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return sourceFile{}, fmt.Errorf("%s: import %s: %w", path, spec.Path.Value, err)
		}
		if imported == module {
			imported = "./"
		} else if rest, own := strings.CutPrefix(imported, module+"/"); own {
			imported = "./" + rest
		}
		file.imports = append(file.imports, importSpec{path: imported, line: set.Position(spec.Pos()).Line})
	}
	return file, nil
}
