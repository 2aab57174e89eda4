# The question and the answer are JSON, the question in the file named by the first argument.
# Runs on the dnf 4 of the slave, in a cell that sees metadata and no network; installs nothing.
import json
import sys

import dnf
import hawkey


def open_sack(question):
    base = dnf.Base()
    conf = base.conf
    conf.cachedir = conf.persistdir = conf.logdir = question["state"]
    conf.installroot = "/tmp"
    conf.plugins = False
    conf.reposdir = []
    conf.zchunk = False
    conf.module_platform_id = "platform:mach"
    conf.substitutions["releasever"] = question["releasever"]
    conf.substitutions["arch"] = question["arch"]
    conf.substitutions["basearch"] = dnf.rpm.basearch(question["arch"])
    for each in question["repositories"]:
        repo = dnf.repo.Repo(each["name"], conf)
        repo.baseurl = ["file://" + each["path"]]
        repo.priority = each["priority"]
        repo.skip_if_unavailable = False
        # The name of its directory is a digest of its content, so cached data is never out of date.
        repo.metadata_expire = each["expire"]
        base.repos.add(repo)
    base.fill_sack(load_system_repo=False)
    return base


def selector(sack, **keys):
    found = hawkey.Selector(sack)
    found.set(**keys)
    return found


def of_name(sack, name):
    found = selector(sack, name=name)
    return found if found.matches() else selector(sack, provides=name)


def of_requirement(sack, text):
    found = selector(sack, provides=text)
    if not found.matches() and text.startswith("/"):
        found = selector(sack, file=text)
    return found


def describe(package):
    kind, digest = package.returnIdSum()
    epoch = "%d:" % package.epoch if package.epoch else ""
    return {
        "nevra": "%s-%s%s-%s.%s" % (package.name, epoch, package.version, package.release, package.arch),
        "name": package.name,
        "repository": package.reponame,
        "location": package.location,
        "digest_kind": kind,
        "sha256": digest,
        "size_bytes": package.downloadsize,
    }


def files_like(sack, missing):
    """Files of the same name elsewhere."""
    found = set()
    for text in missing:
        if text.startswith("/"):
            end = "/" + text.rsplit("/", 1)[1]
            for package in sack.query().filter(file__glob="*" + end):
                found.update((each, package.reponame) for each in package.files if each.endswith(end))
    return found


def solve(question):
    base = open_sack(question)
    sack = base.sack
    answer = {"packages": [], "missing": [], "problems": [], "conflicting": [], "provides": []}
    kept = {(each["nevra"], each["repository"]) for each in question["base"]}
    for text in question["conflicts"]:
        for package in sack.query().filter(provides=text):
            if describe(package)["nevra"] in question["base_nevras"]:
                answer["conflicting"].append([text, describe(package)["nevra"]])
        sack.add_excludes(sack.query().filter(provides=text))
    goal = hawkey.Goal(sack)
    known = {}
    for package in sack.query().filter(nevra_strict=[each["nevra"] for each in question["base"]]):
        known.setdefault(describe(package)["nevra"], []).append(package)
    for nevra, repository in sorted(kept):
        same = [each for each in known.get(nevra, []) if each.reponame == repository]
        if same:
            goal.install(select=selector(sack, pkg=sack.query().filter(pkg=same[:1])), optional=False)
        else:
            answer["missing"].append(nevra)
    for name in question["names"]:
        found = of_name(sack, name)
        if not found.matches():
            answer["missing"].append(name)
        goal.install(select=found, optional=False)
    for text in question["wanted"]:
        found = of_requirement(sack, text)
        # A rich requirement may have no match and be met all the same: the solver knows.
        if not found.matches() and not text.startswith("("):
            answer["missing"].append(text)
        goal.install(select=found, optional=False)
    if not answer["missing"] and not answer["conflicting"]:
        if goal.run(ignore_weak_deps=True, force_best=True):
            answer["packages"] = [describe(each) for each in goal.list_installs()]
            return answer
        answer["problems"] = [list(rules) for rules in goal.problem_rules()]
    provides = {(str(each), package.reponame) for package in sack.query() for each in package.provides}
    answer["provides"] = sorted(provides | files_like(sack, answer["missing"]))
    return answer


with open(sys.argv[1]) as file:
    asked = json.load(file)
try:
    said = solve(asked)
except (dnf.exceptions.Error, hawkey.Exception, RuntimeError) as error:
    said = {"error": str(error)}
json.dump(said, sys.stdout)
