# The question and the answer are JSON, the question in the file named by the first argument.
# Runs on the libdnf5 of the slave, in a cell that sees metadata and no network; installs nothing.
import json
import sys

import libdnf5
from libdnf5.base import Base, Goal, GoalJobSettings
from libdnf5.rpm import PackageQuery


def open_base(question):
    base = Base()
    conf = base.get_config()
    conf.installroot = "/tmp"
    conf.cachedir = conf.system_cachedir = conf.logdir = question["state"]
    conf.system_state_dir = "/tmp/state"
    conf.plugins = False
    conf.reposdir = conf.varsdir = ["/nowhere"]
    conf.zchunk = False
    conf.best = True
    conf.install_weak_deps = False
    conf.optional_metadata_types = ["filelists"]
    conf.module_platform_id = "platform:mach"
    base.setup()
    base.get_vars().set("releasever", question["releasever"])
    base.get_vars().set("arch", question["arch"])
    sack = base.get_repo_sack()
    for each in question["repositories"]:
        repo = sack.create_repo(each["name"])
        conf = repo.get_config()
        conf.baseurl = ["file://" + each["path"]]
        conf.priority = each["priority"]
        conf.skip_if_unavailable = False
        # The name of its directory is a digest of its content, so cached data is never out of date.
        conf.metadata_expire = each["expire"]
    # Without the installed packages of this system, which have no meaning for the root.
    sack.load_repos(libdnf5.repo.Repo.Type_AVAILABLE)
    return base


def query(base, text=None):
    found = PackageQuery(base)
    if text is not None:
        found.filter_provides([text])
    return found


def settings(**keys):
    made = GoalJobSettings()
    for name in ("with_nevra", "with_provides", "with_filenames", "with_binaries"):
        getattr(made, "set_" + name)(keys.get(name, False))
    made.set_expand_globs(False)
    return made


def nevra(package):
    epoch = package.get_epoch()
    epoch = "" if epoch in ("", "0") else epoch + ":"
    rest = (package.get_version(), package.get_release(), package.get_arch())
    return package.get_name() + "-" + epoch + "%s-%s.%s" % rest


def describe(package):
    checksum = package.get_checksum()
    return {
        "nevra": nevra(package),
        "name": package.get_name(),
        "repository": package.get_repo_id(),
        "location": package.get_location(),
        "digest_kind": checksum.get_type_str(),
        "sha256": checksum.get_checksum(),
        "size_bytes": package.get_download_size(),
    }


def want_base(goal, base, question, answer):
    kept = {each["nevra"]: each["repository"] for each in question["base"]}
    found = {}
    for package in query(base) if kept else ():
        name = nevra(package)
        if kept.get(name) == package.get_repo_id():
            found.setdefault(name, package)
    for name in sorted(kept):
        if name in found:
            goal.add_rpm_install(found[name])
        else:
            answer["missing"].append(name)


def want_names(goal, base, question, answer):
    for name in question["names"]:
        named = query(base)
        named.filter_name([name])
        if not named.empty():
            goal.add_install(name, settings(with_nevra=True))
        elif not query(base, name).empty():
            goal.add_provide_install(name)
        else:
            answer["missing"].append(name)


def want_requirements(goal, base, question, answer):
    for text in question["wanted"]:
        # A rich requirement may have no match and be met all the same: the solver knows.
        if text.startswith("(") or not query(base, text).empty():
            goal.add_provide_install(text)
            continue
        owners = query(base)
        owners.filter_file([text])
        if text.startswith("/") and not owners.empty():
            goal.add_install(text, settings(with_filenames=True))
        else:
            answer["missing"].append(text)


def exclude(base, question, answer):
    for text in question["conflicts"]:
        found = query(base, text)
        for package in found:
            if nevra(package) in question["base_nevras"]:
                answer["conflicting"].append([text, nevra(package)])
        base.get_rpm_package_sack().add_user_excludes(found)


def files_like(base, missing):
    """Files of the same name elsewhere."""
    found = set()
    for text in missing:
        if text.startswith("/"):
            end = "/" + text.rsplit("/", 1)[1]
            owners = query(base)
            owners.filter_file(["*" + end], libdnf5.common.QueryCmp_GLOB)
            for package in owners:
                found.update((each, package.get_repo_id()) for each in package.get_files() if each.endswith(end))
    return found


def solve(question):
    base = open_base(question)
    answer = {"packages": [], "missing": [], "problems": [], "conflicting": [], "provides": []}
    exclude(base, question, answer)
    goal = Goal(base)
    for want in (want_base, want_names, want_requirements):
        want(goal, base, question, answer)
    if not answer["missing"] and not answer["conflicting"]:
        transaction = goal.resolve()
        if transaction.get_problems() == libdnf5.base.GoalProblem_NO_PROBLEM:
            answer["packages"] = [describe(each.get_package()) for each in transaction.get_transaction_packages()]
            return answer
        answer["problems"] = [list(transaction.get_resolve_logs_as_strings())]
    provides = {(str(each), package.get_repo_id()) for package in query(base) for each in package.get_provides()}
    answer["provides"] = sorted(provides | files_like(base, answer["missing"]))
    return answer


with open(sys.argv[1]) as file:
    asked = json.load(file)
try:
    said = solve(asked)
except RuntimeError as error:
    said = {"error": str(error)}
json.dump(said, sys.stdout)
