package results

import _ "embed"

// Schema is the JSON schema (draft 2020-12) of run.json, made from the types of this package by its
// tests (go test ./results -run Schema -update). It allows fields that it does not know, since a
// newer build of the same [SchemaVersion] may add some.
//
//go:embed run.schema.json
var Schema []byte
