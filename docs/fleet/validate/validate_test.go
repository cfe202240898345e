// Package validate holds the texts for batch engines to the engines' own types and validators. It
// is a module of its own, so that ctload depends on none of them.
package validate

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/rhysd/actionlint"
	batch "k8s.io/api/batch/v1"
	"sigs.k8s.io/yaml"
)

func text(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestKubernetes decodes each Job strictly, as an API server with fieldValidation=Strict does:
// unknown and doubled fields are errors.
func TestKubernetes(t *testing.T) {
	for _, name := range []string{
		"kubernetes.yaml", "kubernetes-without-kvm.yaml", "kubernetes-merge.yaml",
	} {
		var job batch.Job
		if err := yaml.UnmarshalStrict(text(t, name), &job); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if job.Kind != "Job" || job.APIVersion != batch.SchemeGroupVersion.String() {
			t.Errorf("%s: a %s of %s", name, job.Kind, job.APIVersion)
		}
	}
}

// TestNomad decodes the job into the type of Nomad's API, whose fields it must have.
func TestNomad(t *testing.T) {
	decoder := json.NewDecoder(bytes.NewReader(text(t, "nomad.json")))
	decoder.DisallowUnknownFields()
	var request struct{ Job *api.Job }
	if err := decoder.Decode(&request); err != nil {
		t.Fatal(err)
	}
	request.Job.Canonicalize()
}

// TestGitHub lints the workflow: keys, expressions, and the shell scripts where shellcheck is
// there.
func TestGitHub(t *testing.T) {
	options := actionlint.LinterOptions{Shellcheck: "shellcheck"}
	linter, err := actionlint.NewLinter(os.Stderr, &options)
	if err != nil {
		t.Fatal(err)
	}
	faults, err := linter.Lint("github.yml", text(t, "github.yml"), nil)
	for _, fault := range faults {
		t.Error(fault)
	}
	if err != nil {
		t.Error(err)
	}
}
