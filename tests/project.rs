//! `minimage build` without a program: what it makes of `minimage.toml` in the working directory.

use std::fs;

use crate::cli::{outcome, text};
use crate::command::Outcome;
use crate::golden;
use crate::tree_text::Tree;

const TREE: &str = "include debian\n/usr/bin/main elf needed=libq.so.1\n/usr/lib/libq.so.1 elf\n/srv/www/a script a\n\
    /srv/www/b script b\n/usr/bin/bash elf\n/etc/profile text x";

/// Runs `minimage` with `arguments` where `minimage.toml` is `project`, if there is one. `$TOP` is a tree. Returns what
/// came of it, and as text.
fn built(project: Option<&str>, arguments: &str) -> (Outcome, String) {
    let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Tree::parse("project", TREE).to_disk(top.path(), |_, _| None);
    if let Some(project) = project {
        let project = project.replace("$TOP", top.path().to_str().unwrap());
        fs::write(home.path().join("minimage.toml"), project).unwrap();
    }
    let outcome = outcome(arguments, top.path(), home.path());
    let text = text(arguments, &outcome, top.path(), home.path());
    (outcome, text)
}

const PROJECT: &str = "from = '$TOP'\nprogram = 'main'\narguments = ['-c', 'true']\n\
    output = 'type=oci,dest=out.tar'\nlayers = 'single'\nuser = 7\nexclude = ['/srv/www/b']\n\n\
    add = [\n  '/srv/www:/www,mode=600',\n]\n[env]\nMODE = 'fast'\n[label]\n'org.x' = 'y'\n";
const FLAGS: &str = "build --from $TOP main -o type=oci,dest=out.tar --layers single --user 7 --exclude /srv/www/b \
    --add /srv/www:/www,mode=600 --env MODE=fast --label org.x=y";

#[test]
fn a_project_file_says_what_flags_say() {
    let list = |outcome: (Outcome, String)| (outcome.0.code, outcome.0.stdout);
    let listed = list(built(Some(PROJECT), "build --dry-run"));
    assert_eq!(listed, list(built(None, &format!("{FLAGS} --dry-run -- -c true"))));
    assert!(listed.1.contains(" /www/a  #") && !listed.1.contains("/www/b"), "{}", listed.1);
    let image = list(built(Some(PROJECT), "build"));
    assert_eq!(image, list(built(None, &format!("{FLAGS} -- -c true"))));
    assert_eq!(image.0, Some(0));
    // Flags win, and so do words after `--`.
    let other = list(built(Some(PROJECT), "build --user 8 -- -x"));
    assert_eq!(other, list(built(None, &format!("{} -- -x", FLAGS.replace("--user 7", "--user 8")))));
    assert_ne!(other, image);
    // Whoever names a program does not mean the project.
    let named = list(built(Some(PROJECT), "build --from $TOP main --dry-run"));
    assert_eq!(named, list(built(None, "build --from $TOP main --dry-run")));
}

#[test]
fn a_login_shell_of_the_command_brings_what_it_reads() {
    let shell = "from = '$TOP'\nprogram = 'bash'\n";
    let listed = |project: Option<String>, arguments: &str| {
        let (outcome, _) = built(project.as_deref(), format!("build --dry-run {arguments}").trim_end());
        let is_profile = |line: &&str| line.contains("/etc/profile ");
        outcome.stdout.lines().find(is_profile).map(str::to_owned)
    };
    let bash = "--from $TOP bash";
    let profile = "0644 0:0          2 /etc/profile  # rule `login-shell` for `/usr/bin/bash`: \
        a login shell reads them before anything else: they set PATH and more";
    for (project, arguments, expected) in [
        (None, format!("{bash} -- -lc main"), Some(profile)),
        (None, format!("{bash} -- -c main"), None),
        (None, format!("{bash} --entrypoint [\"/usr/bin/bash\",\"-l\"]"), Some(profile)),
        (None, format!("{bash} main --entrypoint bash --cmd [\"--login\"]"), Some(profile)),
        // Nobody starts it.
        (None, format!("{bash} main --cmd [\"main\",\"-l\"]"), None),
        (None, "--from $TOP main --entrypoint [\"bash\",\"-l\"]".to_owned(), None),
        (Some(format!("{shell}arguments = ['-lc', 'main']\n")), String::new(), Some(profile)),
        (Some(format!("{shell}entrypoint = ['/usr/bin/bash', '-l']\n")), String::new(), Some(profile)),
        (Some(shell.to_owned()), String::new(), None),
    ] {
        assert_eq!(listed(project.clone(), &arguments).as_deref(), expected, "{project:?} {arguments}");
    }
}

#[test]
fn what_is_wrong_with_a_project_file_is_said_at_its_line() {
    let cases = [
        ("nothing", None),
        ("no-program", Some("from = '$TOP'\nuser = 'x'\n")),
        ("keys", Some("form = '/'\n\nprogam = 'main'\nassume-ldconfig = 'yes'\nuser = ['x']\ntag = [1.5]\n")),
        (
            "types",
            Some(
                "program = 3\nfrom = true\nuser = 1.5\nwith = [\n  'tzdata',\n  7,\n]\ntag = 2020-01-02\n\
                    cmd = { a = 'b' }\n\n[env]\nMODE = 1\nDEBUG = true\n",
            ),
        ),
        ("syntax", Some("from = '$TOP'\nprogram =\n")),
        ("value", Some("from = '$TOP'\nprogram = 'main'\ndlopen = 'sometimes'\n")),
        ("missing", Some("from = '$TOP'\nprogram = 'mian'\n")),
    ];
    golden::check(cases.map(|(name, project)| {
        let shown = project.map(|project| format!("minimage.toml:\n{project}\n")).unwrap_or_default();
        (format!("cli/project-{name}.txt"), format!("{shown}{}", built(project, "build").1))
    }));
}
