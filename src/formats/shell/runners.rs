//! Programs that run the command among their arguments -> where in those it is, as data.

/// A program, or a builtin of the shell, that runs another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Runner {
    /// What it is called.
    names: &'static [&'static str],
    /// Its short options that take something, as getopt(3) has them: with `u:` the rest of the word or the next word, with
    /// `i::` the rest of the word.
    short: &'static str,
    /// The user who runs that, unless another one is named.
    becomes: Option<&'static str>,
    /// Those of its options that make a login shell of what it runs.
    login: &'static [&'static str],
    /// Its long options that take the next word, unless their value follows a `=`.
    long: &'static [&'static str],
    /// Those of its options that say what it runs, or that it runs nothing.
    says: &'static [(&'static str, Says)],
    /// What its arguments before the command are.
    before: &'static [Operand],
    /// What comes after those.
    then: Then,
}

/// What the value of an option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// Nothing that counts here.
    Value,
    /// A line for a shell.
    Line,
    /// A program that it runs.
    Program,
    /// The user who runs it.
    User,
    /// The same, and its arguments are those of another kind of program then.
    UserAnd(&'static Runner),
    /// There is none; with this option nothing is run.
    Nothing,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// The rest of the word.
    Rest,
    /// The rest of the word, or else the next word.
    Word,
}

/// What an argument before the command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// A file, a time, a user whose home does not become that of the command.
    Any,
    /// The user who runs the command.
    User,
    /// The root directory for the command, which is of this tree only if it is `/`.
    Root,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// A command.
    Command,
    /// A shell, with the arguments that follow.
    Shell,
}

/// Most of them: options without values, and then a command.
const PLAIN: Runner = Runner {
    names: &[],
    becomes: None,
    short: "",
    login: &[],
    long: &[],
    says: &[],
    before: &[],
    then: Then::Command,
};

/// `runuser --user USER COMMAND` (runuser(1)).
const AS_USER: Runner = Runner { short: "g:G:w:", long: &["--group", "--supp-group"], ..PLAIN };

/// All that are known. What options they have is in the manual pages of these names; `exec` and `command` are in bash(1).
pub(super) static RUNNERS: [Runner; 28] = [
    // Builtins of the shell.
    Runner { names: &["exec"], short: "a:", login: &["-l"], ..PLAIN },
    Runner { names: &["command"], says: &[("-v", Says::Nothing), ("-V", Says::Nothing)], ..PLAIN },
    // GNU coreutils and findutils.
    Runner { names: &["chroot"], long: &["--groups", "--userspec"], before: &[Operand::Root], ..PLAIN },
    Runner {
        names: &["env"],
        short: "C:S:a:u:",
        long: &["--argv0", "--chdir", "--unset"],
        says: &[("-S", Says::Line), ("--split-string", Says::Line)],
        ..PLAIN
    },
    Runner { names: &["nice"], short: "n:", long: &["--adjustment"], ..PLAIN },
    Runner { names: &["nohup"], ..PLAIN },
    Runner { names: &["stdbuf"], short: "e:i:o:", long: &["--error", "--input", "--output"], ..PLAIN },
    Runner {
        names: &["timeout"],
        short: "k:s:",
        long: &["--kill-after", "--signal"],
        before: &[Operand::Any],
        ..PLAIN
    },
    Runner {
        names: &["xargs"],
        short: "E:I:L:P:a:d:e::i::l::n:s:",
        long: &[
            "--arg-file",
            "--delimiter",
            "--max-args",
            "--max-chars",
            "--max-procs",
            "--process-slot-var",
        ],
        ..PLAIN
    },
    // util-linux.
    Runner {
        names: &["chrt"],
        short: "D:P:T:",
        long: &["--sched-deadline", "--sched-period", "--sched-runtime"],
        says: &[("-m", Says::Nothing), ("-p", Says::Nothing), ("--pid", Says::Nothing)],
        before: &[Operand::Any],
        ..PLAIN
    },
    Runner {
        names: &["flock"],
        short: "E:c:w:",
        long: &["--conflict-exit-code", "--timeout", "--wait"],
        says: &[("-c", Says::Line), ("--command", Says::Line)],
        before: &[Operand::Any],
        ..PLAIN
    },
    Runner {
        names: &["ionice"],
        short: "c:n:",
        long: &["--class", "--classdata"],
        says: &[("-P", Says::Nothing), ("-p", Says::Nothing), ("-u", Says::Nothing)],
        ..PLAIN
    },
    Runner {
        names: &["runuser", "su"],
        becomes: Some("root"),
        short: "c:g:G:s:u:w:",
        login: &["-", "-l", "--login"],
        long: &["--group", "--supp-group", "--whitelist-environment"],
        // `su` knows no other user than the one among its arguments.
        says: &[
            ("-c", Says::Line),
            ("--command", Says::Line),
            ("--session-command", Says::Line),
            ("-s", Says::Program),
            ("--shell", Says::Program),
            ("-u", Says::UserAnd(&AS_USER)),
            ("--user", Says::UserAnd(&AS_USER)),
        ],
        before: &[Operand::User],
        then: Then::Shell,
    },
    Runner {
        names: &["setpriv"],
        long: &[
            "--ambient-caps",
            "--apparmor-profile",
            "--bounding-set",
            "--egid",
            "--euid",
            "--groups",
            "--inh-caps",
            "--pdeathsig",
            "--regid",
            "--reuid",
            "--rgid",
            "--ruid",
            "--securebits",
            "--selinux-label",
        ],
        ..PLAIN
    },
    Runner { names: &["setsid"], ..PLAIN },
    Runner {
        names: &["taskset"],
        says: &[("-p", Says::Nothing), ("--pid", Says::Nothing)],
        before: &[Operand::Any],
        ..PLAIN
    },
    Runner {
        names: &["unshare"],
        short: "G:R:S:w:",
        long: &[
            "--boottime",
            "--map-group",
            "--map-groups",
            "--map-user",
            "--map-users",
            "--monotonic",
            "--propagation",
            "--setgid",
            "--setgroups",
            "--setuid",
            "--wd",
        ],
        // What runs is of another tree.
        says: &[("-R", Says::Nothing), ("--root", Says::Nothing)],
        ..PLAIN
    },
    // Measures.
    Runner { names: &["time"], short: "f:o:", long: &["--format", "--output"], ..PLAIN },
    // Others that become somebody else.
    Runner { names: &["doas"], becomes: Some("root"), short: "C:a:u:", says: &[("-u", Says::User)], ..PLAIN },
    Runner { names: &["gosu", "su-exec"], before: &[Operand::User], ..PLAIN },
    Runner {
        names: &["sudo"],
        becomes: Some("root"),
        short: "C:D:R:T:U:a:c:g:h:p:r:t:u:",
        login: &["-i", "--login"],
        long: &[
            "--chdir",
            "--chroot",
            "--close-from",
            "--command-timeout",
            "--group",
            "--host",
            "--other-user",
            "--prompt",
            "--role",
            "--type",
            "--user",
        ],
        says: &[
            ("-e", Says::Nothing),
            ("-l", Says::Nothing),
            ("-v", Says::Nothing),
            ("-u", Says::User),
            ("--user", Says::User),
        ],
        ..PLAIN
    },
    // daemontools, runit and s6.
    Runner { names: &["chpst"], short: "/:C:L:U:b:c:d:e:f:l:m:n:o:p:u:", ..PLAIN },
    Runner {
        names: &["envdir", "envuidgid", "s6-envuidgid", "s6-setuidgid", "setlock", "setuidgid"],
        before: &[Operand::Any],
        ..PLAIN
    },
    Runner { names: &["softlimit"], short: "a:c:d:f:l:m:o:p:r:s:t:", ..PLAIN },
    // The first process of containers.
    Runner { names: &["catatonit"], ..PLAIN },
    Runner { names: &["dumb-init"], short: "r:", long: &["--rewrite"], ..PLAIN },
    Runner { names: &["docker-init", "tini", "tini-static"], short: "e:p:", ..PLAIN },
    // Displays.
    Runner {
        names: &["xvfb-run"],
        short: "e:f:n:p:s:w:",
        long: &["--auth-file", "--error-file", "--server-args", "--server-num", "--wait", "--xauth-protocol"],
        ..PLAIN
    },
];

impl Runner {
    /// Returns the one called `name`.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        RUNNERS.iter().find(|runner| runner.names.contains(&name))
    }

    /// Returns the user who runs what it runs, unless another one is named; `None`: the one who runs it.
    pub(super) fn becomes(&self) -> Option<Vec<u8>> {
        self.becomes.map(|user| user.as_bytes().to_vec())
    }

    /// Returns what its argument after `count` others is; `None` if the command begins there, or what runs it.
    pub(super) fn operand(&self, count: usize) -> Option<Operand> {
        self.before.get(count).copied()
    }

    /// Returns what follows its operands.
    pub(super) fn then(&self) -> Then {
        self.then
    }

    /// Returns what the value of the option, or of the options, in `word` is, and the value if it is in `word`, too.
    /// `None`: they have none.
    pub(super) fn option<'a>(&self, word: &'a [u8]) -> Option<(Says, Option<&'a [u8]>)> {
        if word.starts_with(b"--") {
            let mut parts = word.splitn(2, |byte| *byte == b'=');
            let name = parts.next()?;
            let takes = self.long.iter().any(|long| long.as_bytes() == name).then_some(Says::Value);
            return self.says(name).or(takes).map(|says| (says, parts.next()));
        }
        self.letters(word).find_map(|(letter, rest, takes)| {
            let value = (!rest.is_empty() || takes == Takes::Rest).then_some(rest);
            match self.says(&[b'-', letter]) {
                says if takes != Takes::Nothing => Some((says.unwrap_or(Says::Value), value)),
                says => says.map(|says| (says, value)),
            }
        })
    }

    /// Returns whether the option, or one of the options, in `word` makes a login shell of what it runs.
    pub(super) fn is_login(&self, word: &[u8]) -> bool {
        let has = |option: &[u8]| self.login.iter().any(|login| login.as_bytes() == option);
        has(word) || !word.starts_with(b"--") && self.letters(word).any(|(letter, ..)| has(&[b'-', letter]))
    }

    /// Returns the short options in `word`, each with what follows it there and what it takes.
    fn letters<'a>(&self, word: &'a [u8]) -> impl Iterator<Item = (u8, &'a [u8], Takes)> {
        let takes = |letter| match self.short.split_once(char::from(letter)) {
            Some((_, after)) if after.starts_with("::") => Takes::Rest,
            Some((_, after)) if after.starts_with(':') => Takes::Word,
            _ => Takes::Nothing,
        };
        let mut rest = word.strip_prefix(b"-").unwrap_or_default();
        std::iter::from_fn(move || {
            let (&letter, after) = rest.split_first()?;
            let takes = takes(letter);
            // What a variable or a command has to say is no letters.
            rest = if takes == Takes::Nothing && !b"$`".contains(&letter) { after } else { &[] };
            Some((letter, after, takes))
        })
    }

    fn says(&self, option: &[u8]) -> Option<Says> {
        self.says.iter().find(|(name, _)| name.as_bytes() == option).map(|(_, says)| *says)
    }
}
