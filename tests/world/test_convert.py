"""Conversion of Debian's versions, dependencies, names and paths: python3 -m unittest discover tests/world."""

import os
import tarfile
import tempfile
import unittest
from unittest import mock

from rpmworld import WorldError, each_alone, archive, convert, deb, package, srpm


class Sources(unittest.TestCase):
    def test_one_that_cannot_be_had_is_named_and_the_others_are_made(self):
        made = []

        def make(name):
            if name == "gone":
                raise WorldError("404 Not Found")
            made.append(name)

        with mock.patch("sys.stderr") as said:
            self.assertEqual(each_alone(["first", "gone", "last"], make), ["gone"])
        self.assertEqual(made, ["first", "last"])
        self.assertIn("gone cannot be had", "".join(str(call) for call in said.mock_calls))


class Versions(unittest.TestCase):
    def test_epoch_version_and_revision_are_split(self):
        self.assertEqual(convert.evr("1:2.38.1-5+deb12u3"), ("1", "2.38.1", "5+deb12u3"))

    def test_a_native_package_has_no_revision_but_its_rpm_has_a_release(self):
        self.assertEqual(convert.evr("12.4+deb12u15"), ("", "12.4+deb12u15", ""))
        self.assertEqual(convert.package_evr("12.4+deb12u15").release, "0")

    def test_a_dash_inside_of_the_upstream_version_becomes_an_underscore(self):
        self.assertEqual(str(convert.evr("2:1.0-rc1-3")), "2:1.0_rc1-3")

    def test_a_tilde_stays(self):
        self.assertEqual(str(convert.evr("3.0.22-1~deb12u2")), "3.0.22-1~deb12u2")


class Dependencies(unittest.TestCase):
    def test_later_than_a_version_without_a_release_includes_its_releases(self):
        self.assertEqual(convert.dependency("libc6 (>> 2.36)"), "libc6 >= 2.36")
        self.assertEqual(convert.dependency("libc6 (<< 2.37)"), "libc6 < 2.37")

    def test_later_than_a_release_stays_later(self):
        self.assertEqual(convert.dependency("libc6 (>> 2.36-9)"), "libc6 > 2.36-9")

    def test_the_architecture_qualifier_goes(self):
        self.assertEqual(convert.dependency("perl:any"), "perl")
        self.assertEqual(convert.dependency("python3:any (>= 3.5~)"), "python3 >= 3.5~")

    def test_alternatives_become_a_rich_dependency_without_repetition(self):
        self.assertEqual(convert.dependencies("a | b (>= 1), c, d | d"), ["(a or b >= 1)", "c", "d"])

    def test_continuation_lines_and_empty_clauses_are_read(self):
        self.assertEqual(convert.dependencies("a,\nb (= 1-2),\n"), ["a", "b = 1-2"])

    def test_what_only_maintainer_scripts_need_is_left_out_with_its_alternatives(self):
        self.assertEqual(convert.dependencies("debconf (>= 0.5) | debconf-2.0, libc6", {"debconf"}), ["libc6"])

    def test_what_is_no_dependency_is_an_error(self):
        for text in ("", "UPPER", "a (2)", "a (>= 1", "a b"):
            with self.assertRaises(ValueError, msg=text):
                convert.dependency(text)


class Names(unittest.TestCase):
    def test_a_development_package_gets_its_fedora_names(self):
        self.assertEqual(convert.devel_names("libpopt-dev"), {"libpopt-devel", "popt-devel"})
        self.assertLessEqual({"libselinux-devel", "selinux-devel"}, convert.devel_names("libselinux1-dev"))
        self.assertLessEqual({"zlib-devel"}, convert.devel_names("zlib1g-dev"))
        self.assertLessEqual({"libcurl-devel"}, convert.devel_names("libcurl4-openssl-dev"))

    def test_other_packages_get_none_by_rule(self):
        self.assertEqual(convert.devel_names("libpopt0"), set())

    def test_mapped_names_replace_those_by_rule(self):
        self.assertEqual(convert.provided_names("libssl-dev", ["openssl-devel"], set()), ["openssl-devel"])

    def test_no_name_is_that_of_another_package(self):
        self.assertEqual(convert.provided_names("passwd", ["shadow-utils", "login"], {"passwd", "login"}), ["shadow-utils"])


class Paths(unittest.TestCase):
    def test_top_level_directories_of_programs_move_into_usr(self):
        self.assertEqual(convert.in_usr("bin/bash"), "usr/bin/bash")
        self.assertEqual(convert.in_usr("lib64"), "usr/lib64")
        self.assertEqual(convert.in_usr("usr/bin/gcc"), "usr/bin/gcc")
        self.assertEqual(convert.in_usr("library/x"), "library/x")

    def test_metadata_of_a_python_package_give_its_name_as_rpm_writes_it(self):
        site = "usr/lib/python3/dist-packages"
        self.assertEqual(convert.python_dist(f"{site}/hatchling-1.12.2.dist-info"), "python3dist(hatchling) = 1.12.2")
        self.assertEqual(convert.python_dist(f"{site}/Zope.Some_thing-5.0.egg-info"), "python3dist(zope-some-thing) = 5.0")
        self.assertEqual(convert.python_dist(f"{site}/a-1-py3.11.egg-info"), "python3dist(a) = 1")
        for path in (f"{site}/a/b-1.dist-info", f"{site}/a.py", f"{site}/a-1.dist-info/METADATA"):
            self.assertIsNone(convert.python_dist(path), path)

    def test_a_link_that_climbed_out_of_a_moved_directory_still_arrives(self):
        self.assertEqual(convert.link_target("bin/which", "../usr/bin/which.x"), "which.x")
        self.assertEqual(convert.link_target("sbin/a", "../etc/b"), "../../etc/b")
        self.assertEqual(convert.link_target("sbin/a", "../bin/b"), "../bin/b")

    def test_a_link_beside_its_target_and_an_absolute_one_stay(self):
        self.assertEqual(convert.link_target("lib/x/libz.so.1", "libz.so.1.2"), "libz.so.1.2")
        self.assertEqual(convert.link_target("lib64/ld.so.2", "/lib/x/ld.so.2"), "/lib/x/ld.so.2")
        self.assertEqual(convert.link_target("usr/lib/a", "../../lib/a.1"), "../../lib/a.1")

    def test_a_link_that_would_point_to_itself_vanishes(self):
        self.assertIsNone(convert.link_target("bin/awk", "/usr/bin/awk"))

    def test_names_are_quoted_for_the_files_section(self):
        self.assertEqual(convert.spec_path("usr/bin/["), '"/usr/bin/["')
        self.assertEqual(convert.spec_path("usr/a b%c"), '"/usr/a b%%c"')
        self.assertEqual(convert.spec_path("usr/[x]*"), '"/usr/?x??"')

    def test_documentation_is_left_out_but_copyrights_stay(self):
        self.assertTrue(deb.is_left_out("usr/share/man/man1/x.1.gz", False))
        self.assertTrue(deb.is_left_out("usr/share/doc/x/changelog.gz", False))
        self.assertFalse(deb.is_left_out("usr/share/doc/x/copyright", False))
        self.assertFalse(deb.is_left_out("usr/share/manage", False))


class Specs(unittest.TestCase):
    def setUp(self):
        world = {"names": {"su": ["shadow-su"]}, "only_for_scripts": ["dpkg"], "package": {"su": {"provides": ["extra"]}}}
        self.rules = package.Rules(world, frozenset({"usr", "usr/bin", "var/run"}), {"su"})
        self.control = {
            "Package": "su", "Version": "1:2-3", "Architecture": "amd64", "Description": "100% su\nlong\n.\nlonger",
            "Depends": "libc6 (>= 2.36), dpkg", "Breaks": "old (<< 1)", "Conflicts": "other", "Provides": "run-as",
        }
        entries = [
            deb.Entry("usr/bin", "directory", 0o755, "root", "root"),
            deb.Entry("usr/bin/su", "file", 0o4755, "root", "shadow"),
            deb.Entry("usr/bin/sulink", "link", 0o777, "root", "root"),
            deb.Entry("etc/su.conf", "file", 0o640, "root", "root"),
        ]
        self.payload = deb.Payload({each.path: each for each in entries}, ["/bin/su"], 1)
        self.spec = package.spec_of(self.control, self.payload, "/tree", self.rules)

    def test_the_header_carries_version_and_dependencies(self):
        for line in ("Epoch: 1", "Version: 2", "Release: 3", "Requires: libc6 >= 2.36", "Summary: 100%% su"):
            self.assertIn(line + "\n", self.spec)
        for line in ("shadow-su = 1:2-3", "run-as", "/bin/su", "extra"):
            self.assertIn(f"Provides: {line}\n", self.spec)

    def test_breaks_conflicts_and_script_only_packages_are_not_kept(self):
        for word in ("Conflicts", "old", "other", "dpkg"):
            self.assertNotIn(word, self.spec.split("%description")[0])

    def test_files_keep_mode_and_owner_and_configuration_is_marked(self):
        self.assertIn('%attr(4755,root,shadow) "/usr/bin/su"\n', self.spec)
        self.assertIn('%attr(-,root,root) "/usr/bin/sulink"\n', self.spec)
        self.assertIn('%config(noreplace) %attr(0640,root,root) "/etc/su.conf"\n', self.spec)
        self.assertNotIn('"/usr/bin"\n', self.spec)

    def test_a_file_of_another_group_wants_the_groups_to_be_there_first(self):
        self.assertIn("Requires(pre): base-passwd\n", self.spec)

    def test_the_name_of_the_rpm(self):
        self.assertEqual(package.rpm_name(self.control), "su-2-3.x86_64.rpm")
        self.assertEqual(package.rpm_name(self.control | {"Architecture": "all"}), "su-2-3.noarch.rpm")


class Sources(unittest.TestCase):
    def test_a_one_line_entry_with_options_is_read(self):
        text = "# c\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # x\n"
        stanzas = list(archive.stanzas_of_list(text))
        self.assertEqual(stanzas[0]["Signed-By"], "/k.gpg")
        self.assertEqual(stanzas[0]["Suites"], "bookworm")

    def test_disabled_stanzas_and_comments_are_passed_over(self):
        text = "Types: deb\n# c\nURIs: http://a.example\nSuites: s\n\nEnabled: no\nTypes: deb\n"
        self.assertEqual([each["URIs"] for each in archive.stanzas_of_sources(text)], ["http://a.example"])

    def test_only_the_release_itself_is_taken_and_its_sources_are_added(self):
        stanzas = [
            {"Types": "deb", "URIs": "http://a.example", "Suites": "bookworm bookworm-updates", "Components": "main"},
            {"Types": "deb", "URIs": "http://other.example", "Suites": "bookworm", "Components": "stable"},
            {"Types": "deb", "URIs": "http://next.example", "Suites": "trixie", "Components": "main"},
        ]
        text = archive.private_sources(stanzas, "bookworm")
        self.assertEqual(text.count("URIs: http://a.example"), 2)
        self.assertIn("Types: deb-src\nSuites: bookworm\n", text)
        self.assertNotIn("other", text)
        self.assertNotIn("next", text)

    def test_a_plan_names_the_files_of_the_cache(self):
        plan = "Inst tar (1.34-1 Debian:12/x [amd64])\nInst vim (2:9.0-1 Debian:12/x, other:1 [all]) []\nConf tar (1.34-1 x [amd64])\n"
        self.assertEqual(list(archive.planned_debs(plan)), ["tar_1.34-1_amd64.deb", "vim_2%3a9.0-1_all.deb"])

    def test_a_host_without_the_release_is_told_so(self):
        with mock.patch.object(archive, "host_stanzas", return_value=[]), mock.patch("os.makedirs"):
            with self.assertRaisesRegex(WorldError, "bookworm"):
                archive.Archive("/nonexistent", "bookworm")


class Checksums(unittest.TestCase):
    def test_a_wrong_sum_names_both(self):
        with self.assertRaisesRegex(WorldError, "x.tar: .* is bb, but .* says aa"):
            srpm.check("x.tar", "bb", {"x.tar": "aa"})
        with self.assertRaisesRegex(WorldError, "says nothing of it"):
            srpm.check("x.tar", "bb", {})

    def test_the_file_is_read_strictly(self):
        self.assertEqual(srpm.read_checksums("# c\naa  x.tar\n\n"), {"x.tar": "aa"})
        with self.assertRaisesRegex(WorldError, "line 2"):
            srpm.read_checksums("aa  x\nbb\n")

    def test_a_tree_is_packed_alike_whenever_and_whatever_its_times(self):
        with tempfile.TemporaryDirectory() as top:
            tree = os.path.join(top, "tree")
            os.mkdir(tree)
            for name, mode in (("b", 0o755), ("a", 0o600)):
                with open(os.path.join(tree, name), "w") as file:
                    file.write(name)
                os.chmod(os.path.join(tree, name), mode)
            one, two = os.path.join(top, "1.tar.gz"), os.path.join(top, "2.tar.gz")
            srpm.pack(tree, "x-1", one, 1_700_000_000)
            os.utime(os.path.join(tree, "a"), (1, 1))
            srpm.pack(tree, "x-1", two, 1_700_000_000)
            self.assertEqual(srpm.sha256_of(one), srpm.sha256_of(two))
            with tarfile.open(one) as archive:
                found = [(each.name, each.mode, each.mtime) for each in archive]
            self.assertEqual(found, [("x-1/a", 0o644, 1_700_000_000), ("x-1/b", 0o755, 1_700_000_000)])

    def test_lines_are_added_before_the_description(self):
        text = srpm.add_lines("Name: x\n\n%description\ntext\n", {"add": ["BuildRequires: flex"], "spec": "x"})
        self.assertEqual(text, "Name: x\nBuildRequires: flex\n\n%description\ntext\n")


if __name__ == "__main__":
    unittest.main()
