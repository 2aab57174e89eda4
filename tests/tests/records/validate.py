#!/usr/bin/env python3
"""Validate what mach tells of a build, by programs that know nothing of mach.

    validate.py record SCHEMA FILE... | statement FILE | spdx FILE | cyclonedx FILE

Prints one line for each file; ends with 1, and says why, when one is not valid.
"""

import json
import pathlib
import sys


def record(schema, *files):
    """A record, by its JSON Schema."""
    from jsonschema import Draft202012Validator, FormatChecker

    schema = json.loads(pathlib.Path(schema).read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    for file in files:
        errors = sorted(validator.iter_errors(json.loads(pathlib.Path(file).read_text())), key=str)
        yield file, [f"{error.json_path}: {error.message}" for error in errors]


def statement(file):
    """An in-toto statement with SLSA provenance: no field but those of their definitions."""
    import in_toto_attestation.predicates.provenance.v1.provenance_pb2 as predicates
    import in_toto_attestation.v1.statement_pb2 as statements
    from google.protobuf import json_format
    from in_toto_attestation.v1.statement import Statement

    document = json.loads(pathlib.Path(file).read_text())
    # Each refuses a field that its definition does not have.
    Statement.copy_from_pb(json_format.ParseDict(document, statements.Statement())).validate()
    predicate = json_format.ParseDict(document["predicate"], predicates.Provenance())
    definition, builder = predicate.build_definition, predicate.run_details.builder
    missing = [name for name, value in (
        ("buildType", definition.build_type),
        ("externalParameters", definition.external_parameters),
        ("resolvedDependencies", definition.resolved_dependencies),
        ("builder.id", builder.id),
    ) if not value]
    missing += [f"{each.name}: no digest" for each in definition.resolved_dependencies if not each.digest["sha256"]]
    yield file, missing + list(purls(each.uri for each in definition.resolved_dependencies))


def spdx(file):
    """An SPDX 2.3 document."""
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    errors = [error.validation_message for error in validate_full_spdx_document(parse_file(file))]
    packages = json.loads(pathlib.Path(file).read_text())["packages"]
    references = (each["referenceLocator"] for package in packages for each in package.get("externalRefs", []))
    yield file, errors + list(purls(references))


def cyclonedx(file):
    """A CycloneDX 1.6 document."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = pathlib.Path(file).read_text()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    found = purls(each.get("purl") for each in json.loads(text)["components"])
    yield file, ([str(error)] if error else []) + list(found)


def purls(texts):
    """What is wrong with package URLs: each must read back as it is written."""
    from packageurl import PackageURL

    for text in filter(None, texts):
        if PackageURL.from_string(text).to_string() != text:
            yield f"{text}: canonical is {PackageURL.from_string(text).to_string()}"


def main(kind, *arguments):
    kinds = {each.__name__: each for each in (record, statement, spdx, cyclonedx)}
    failed = False
    for file, errors in kinds[kind](*arguments):
        failed |= bool(errors)
        print(f"{kind} {pathlib.Path(file).name}: {'; '.join(map(str, errors)) or 'valid'}")
    sys.exit(failed)


main(*sys.argv[1:])
