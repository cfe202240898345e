package hosttest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := parse([]byte("# a comment\n\nrun  a|b-* pkg\ntest-debian /x/*.so  other\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []line{
		{"run", []string{"a", "b-*"}, "pkg"}, {"test-debian", []string{"/x/*.so"}, "other"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(line{})); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"run a", "run a b c", "run [ b"} {
		_, err := parse([]byte("\n" + text))
		if err == nil || !strings.HasPrefix(err.Error(), ".ci/programs:2: ") {
			t.Errorf("%q: %v, want an error at line 2", text, err)
		}
	}
}

func TestListed(t *testing.T) {
	for name, pkg := range map[string]string{
		"ip6tables-nft-save": "iptables", "sh": "dash", "mke2fs": "e2fsprogs",
	} {
		if l, err := listed(name); err != nil || l.pkg != pkg {
			t.Errorf("%s: package %q, %v; want %q", name, l.pkg, err, pkg)
		}
	}
	_, err := listed("no-such-program")
	if err == nil || !strings.Contains(err.Error(), ".ci/programs") {
		t.Errorf("a program in no list: %v", err)
	}
}

// TestProgramsAreListed checks all Go files against the list of what make installs. The list has
// every program that they start by name, and tests look programs up only through this package.
func TestProgramsAreListed(t *testing.T) {
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		here := filepath.Dir(path) == filepath.Join(dir, "internal/hosttest")
		if err != nil || filepath.Ext(path) != ".go" || here {
			return err
		}
		n++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, wrong := range unlisted(set, file) {
			t.Error(wrong)
		}
		return nil
	})
	if err != nil || n < 100 {
		t.Errorf("%d files, %v", n, err)
	}
}

// TestUnlisted gives the check files that it must refuse.
func TestUnlisted(t *testing.T) {
	for body, want := range map[string]int{
		`exec.Command("no-such-program")`:                                   1,
		`exec.CommandContext(ctx, "no-such-program", "a")`:                  1,
		`name := "no-such-program"; exec.Command(name)`:                     1,
		`exec.Command(program)`:                                             1,
		`args := []string{"no-such-program"}; exec.Command(args[0])`:        1,
		`exec.LookPath("sh")`:                                               1,
		`os.Getenv("CTLOAD_NO_SKIP")`:                                       1,
		`exec.Command("/usr/bin/sh")`:                                       1,
		`exec.Command("sh"); exec.Command("/proc/self/exe")`:                0,
		`exec.Command("../box"); exec.Command(hosttest.Program(t, "sh"))`:   0,
		`path, err := binary(); exec.Command(path)`:                         0,
		`program := hosttest.Program(t, "sh"); exec.Command(program, "-c")`: 0,
	} {
		text := "package p\nimport (\"os/exec\"; \"testing\")\n" +
			"const program = \"other-program\"\nfunc f(t *testing.T) {" + body + "}"
		if strings.Contains(body, "program :=") {
			text = strings.Replace(text, "const program", "const other", 1)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, "x_test.go", text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := unlisted(set, file); len(got) != want {
			t.Errorf("%s: %q, want %d", body, got, want)
		}
	}
}

// unlisted returns a file's violations: programs started by a name that no list has and, in tests,
// programs looked up without this package.
func unlisted(set *token.FileSet, file *ast.File) (wrong []string) {
	test := imports(file, "testing")
	known := literals(file)
	ast.Inspect(file, func(node ast.Node) bool {
		if text, ok := node.(*ast.BasicLit); ok && test && text.Value == `"CTLOAD_NO_SKIP"` {
			at := set.Position(text.Pos())
			wrong = append(wrong, fmt.Sprintf("%s: hosttest.Skip decides what may be skipped", at))
		}
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		refuse := func(format string, args ...any) {
			at := set.Position(call.Pos())
			wrong = append(wrong, at.String()+": "+fmt.Sprintf(format, args...))
		}
		var program ast.Expr
		switch name := called(call); {
		case name == "LookPath" && test:
			refuse("a test looks programs up with hosttest.Program")
		case name == "Command":
			program = call.Args[0]
		case name == "CommandContext":
			program = call.Args[1]
		}
		if program == nil {
			return true
		}
		for _, name := range known.values(program) {
			switch {
			case name == "":
			case !strings.Contains(name, "/"):
				if _, err := listed(name); err != nil {
					refuse("%v", err)
				}
			case filepath.IsAbs(name) && !strings.HasPrefix(name, "/proc/self/") && name != "/init":
				refuse("%s is started by its path, which another host may not have", name)
			}
		}
		return true
	})
	return wrong
}

func imports(file *ast.File, path string) bool {
	isPath := func(spec *ast.ImportSpec) bool { return spec.Path.Value == strconv.Quote(path) }
	return slices.ContainsFunc(file.Imports, isPath)
}

// called returns the name of the os/exec function that a call calls, or an empty string.
func called(call *ast.CallExpr) string {
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
		if pkg, ok := selector.X.(*ast.Ident); ok && pkg.Name == "exec" {
			return selector.Sel.Name
		}
	}
	return ""
}

// texts maps the names of a file to the literal strings, or first strings of slices, that it
// assigns to them.
type texts map[string][]string

func literals(file *ast.File) texts {
	known := texts{}
	give := func(name, value ast.Expr) {
		if ident, ok := name.(*ast.Ident); ok {
			known[ident.Name] = append(known[ident.Name], known.values(value)...)
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			for i := range node.Lhs {
				if len(node.Rhs) == len(node.Lhs) {
					give(node.Lhs[i], node.Rhs[i])
				}
			}
		case *ast.ValueSpec:
			for i := range node.Values {
				give(node.Names[i], node.Values[i])
			}
		}
		return true
	})
	return known
}

// values returns the strings that an expression may stand for, as far as its file shows it.
func (k texts) values(e ast.Expr) []string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return []string{text}
		}
	case *ast.Ident:
		return k[e.Name]
	case *ast.CompositeLit:
		if len(e.Elts) > 0 {
			return k.values(e.Elts[0])
		}
	case *ast.IndexExpr:
		if index, ok := e.Index.(*ast.BasicLit); ok && index.Value == "0" {
			return k.values(e.X)
		}
	}
	return nil
}

// TestProgram asks for programs as a test does.
func TestProgram(t *testing.T) {
	if got := Program(t, "sh"); filepath.Base(got) != "sh" {
		t.Errorf("sh is %q", got)
	}
	// An ordinary user's PATH lacks administrators' programs.
	t.Setenv("PATH", "/usr/bin:/bin")
	dir, err := exec.LookPath("/usr/sbin/chroot")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := look("chroot"); err != nil || got != dir {
		t.Errorf("chroot is %q, %v", got, err)
	}
}
