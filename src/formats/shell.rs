//! A shell script -> the literal words in command position: the programs it would run, as far as a reader sees.
//!
//! No shell is imitated: functions stay unknown, and a variable is all that the script plainly gives it. Command
//! substitutions and the words of `eval` are scripts of their own. What is found is looked up later, and what is not found is only a warning.

mod command;
mod runners;
mod tokens;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use command::{Command, OPENERS, Position, is_assignment, is_program_name};
use tokens::{Part, Scanner, Token, Word, default_of};

/// How much of a script is read, in bytes.
pub const SCRIPT_MAX: u64 = 1 << 20;
/// The most words that one script yields.
const WORDS_MAX: usize = 10_000;
/// How often a script is read at most, on the whole: substitutions inside of substitutions are read again.
const DEPTH_MAX: usize = 8;

/// Programs that run the script among their arguments, in the grammar of POSIX.
const SHELLS: [&str; 7] = ["ash", "bash", "dash", "ksh", "mksh", "sh", "zsh"];

/// Returns what `script` starts.
pub fn started_by(script: &[u8]) -> Started {
    let mut found = Found::default();
    found.read_all(Cow::Borrowed(script));
    found.into_started()
}

/// Returns whether `program`, a name or path, is that of a shell whose grammar is that of POSIX.
pub fn is_shell(program: &[u8]) -> bool {
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    SHELLS.iter().any(|shell| shell.as_bytes() == name)
}

/// What commands start, by literal words: each once, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// The programs, without functions of the script.
    pub programs: Vec<Vec<u8>>,
    /// The files that shells among them are to read.
    pub scripts: Vec<Vec<u8>>,
    /// Those of the programs that are login shells, or start one.
    pub logins: Vec<Login>,
}

/// A login shell, or a program that starts one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Login {
    /// Its name or path.
    pub program: Vec<u8>,
    /// The name or number of the user whose shell it is; `None` if that is the one who runs the command, or is known only
    /// at run time.
    pub user: Option<Vec<u8>>,
}

/// Returns what the command with these `words` starts, its own program too.
pub fn started(words: &[&str]) -> Started {
    let mut found = Found::default();
    let mut position = Position::Command;
    for word in words {
        position = match position {
            // No shell reads it.
            Position::Command if OPENERS.contains(word) || is_assignment(word) => Position::Argument,
            position => found.read_word(position, &Word::new(word.as_bytes().to_vec())),
        };
    }
    found.end_command();
    let lines = std::mem::take(&mut found.scripts);
    lines.into_iter().for_each(|line| found.read_all(Cow::Owned(line)));
    found.into_started()
}

/// What was read so far.
#[derive(Default)]
struct Found {
    words: BTreeSet<Vec<u8>>,
    functions: BTreeSet<Vec<u8>>,
    /// The values that variables are plainly given.
    values: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// The variables that stand where the name of a command is.
    commands: BTreeSet<Vec<u8>>,
    /// Files that other shells are to read.
    files: BTreeSet<Vec<u8>>,
    /// The programs that are login shells, or start one.
    logins: BTreeSet<Login>,
    /// Scripts in words, for other shells and `eval`.
    scripts: Vec<Vec<u8>>,
    /// The command that is read.
    command: Command,
}

impl Found {
    /// Reads `script`, and what is a script in it.
    fn read_all(&mut self, script: Cow<'_, [u8]>) {
        let mut left = script.len().saturating_mul(DEPTH_MAX);
        let mut scripts = vec![script];
        while let Some(script) = scripts.pop() {
            let mut unread = vec![Part::Script(&script)];
            while let Some(part) = unread.pop()
                && left > 0
            {
                let (Part::Script(text) | Part::Text(text)) = part;
                left = left.saturating_sub(text.len());
                let mut scanner = Scanner::new(text);
                match part {
                    Part::Script(_) => self.read(&mut scanner),
                    Part::Text(_) => scanner.skip_text(),
                }
                unread.extend(scanner.parts);
            }
            scripts.extend(self.scripts.drain(..).map(Cow::Owned));
        }
        for variable in std::mem::take(&mut self.commands) {
            for text in self.values.remove(&variable).unwrap_or_default() {
                self.read_word(Position::Command, &Word::new(text));
                self.end_command();
            }
        }
    }

    fn into_started(self) -> Started {
        let Self { words, functions, files, logins, .. } = self;
        let programs = words.into_iter().filter(|word| !functions.contains(word)).collect();
        Started { programs, scripts: files.into_iter().collect(), logins: logins.into_iter().collect() }
    }

    /// Reads the script before `scanner`.
    fn read(&mut self, scanner: &mut Scanner<'_>) {
        let mut position = Position::Command;
        let mut is_case_pattern = false;
        let mut previous: Option<Vec<u8>> = None;
        while let Some(token) = scanner.next() {
            if !matches!(token, Token::Word(_)) {
                self.end_command();
            }
            match token {
                Token::Separator => position = Position::Command,
                Token::CaseEnd => {
                    position = Position::Argument;
                    is_case_pattern = true;
                }
                Token::Close => {
                    // `name()` defines a function; `pattern)` begins the commands of a case.
                    position = Position::Command;
                    is_case_pattern = false;
                }
                Token::Function => {
                    self.functions.extend(previous.take());
                    position = Position::Command;
                }
                Token::Word(word) => {
                    let text = word.known();
                    if is_case_pattern {
                        is_case_pattern = text != Some("esac");
                        continue;
                    }
                    self.note_variables(&word, position);
                    if position == Position::Argument {
                        if text == Some("in") && previous.as_deref() == Some(b"case") {
                            is_case_pattern = true;
                            previous = None;
                        }
                        continue;
                    }
                    if text == Some("function") && position == Position::Command {
                        self.functions.extend(scanner.next_literal());
                    } else if text == Some("[[") && position == Position::Command {
                        scanner.skip_condition();
                    }
                    position = self.read_word(position, &word);
                    previous = word.into_literal();
                }
            }
        }
        self.end_command();
    }

    /// Notes what `word` gives a variable, or the variable that it is, if it stands where a command is named.
    fn note_variables(&mut self, word: &Word, position: Position) {
        if let Some((name, value)) = assigned(&word.text) {
            if self.values.len() < WORDS_MAX {
                self.values.entry(name.to_vec()).or_default().insert(value.to_vec());
            }
        } else if word.known().is_none() && position.is_of_command() {
            let name = word.text.strip_prefix(b"$").unwrap_or_default();
            let name = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
            self.commands.extend(is_variable(name).then(|| name.to_vec()));
        }
    }
}

/// Returns whether `name` can be that of a variable.
fn is_variable(name: &[u8]) -> bool {
    !name.first().is_none_or(u8::is_ascii_digit)
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Returns the variable and its value in `NAME=value`, `NAME=${OTHER:-value}`, where the value may be the name of a
/// program.
fn assigned(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (text.get(..at)?, text.get(at.saturating_add(1)..)?);
    let inside = value.strip_prefix(b"${").and_then(|value| value.strip_suffix(b"}"));
    let value = inside.map_or(Some(value), default_of)?;
    (is_variable(name) && is_program_name(value)).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_position() {
        for (script, words) in [
            ("#!/bin/sh\nls -l; grep x | sort -u && wc\n", "grep ls sort wc"),
            ("if test -f x; then cat x; elif awk 1; then :; else sed p; fi", "awk cat sed"),
            ("for i in a b; do rm $i; done\nwhile read x; do cut -f1; done", "cut rm"),
            ("A=1 B=2 make install", "make"),
            ("exec /usr/sbin/nginx -g 'daemon off;'", "/usr/sbin/nginx"),
            ("$CMD x; ${CMD} y; \"$X/bin/z\" q", ""),
            (
                "A=${B:-/x/a} C=c; D=d\nE=\"x y\"; export F=f; $A; exec \"${C}\" $D; $E; nice $F; G=cd; $G",
                "/x/a c f nice",
            ),
            ("helper() { tar x; }\nfunction other { gzip; }\nhelper; other", "gzip tar"),
            ("case $1 in\n  start|stop) systemctl x ;;\n  *) usage ;;\nesac\nid", "id systemctl usage"),
            ("A=a B=b; case x in\n$A|$B) c ;;\n$B)\n$A;; esac", "a c"),
            ("cat <<EOF\nrm -rf /\nEOF\nuname", "cat uname"),
            ("cat <<EOF >x\na=$(uname -a) `id`\n\\$(no)\nEOF\nls", "cat id ls uname"),
            ("cat <<\"EOF\"; cat <<\\END\n$(no)\nEOF\n$(no)\nEND\nls", "cat ls"),
            ("cat <<-'END' >/dev/null\n\tdd if=x\n\tEND\nuname", "cat uname"),
            ("ls > out 2>&1 < in; date >> log", "date ls"),
            (
                "2>/dev/null a; >/dev/null 2>&1 b; exec 2>&1 nice 3>x b; timeout 5 2>&1 c",
                "a b c nice timeout",
            ),
            ("&>>x a; 10<<<x b; 2>$(c) d; xargs 1>x e", "a b c d e xargs"),
            ("( cd /; find . ) & wait", "find"),
            (
                "A=(x 'y)' `a` # z)\n <(b)); A+=(); C=c B=(x) d; declare -a D=([1]=x\n$(e)); A(); f",
                "a b d e f",
            ),
            (
                "[[ $1 =~ ^(x|y)$ && -n `a` || ( z ) ]] && b; if ! [[ a < b\n| c ]]; then c; fi; d [[ x | e",
                "a b c d e",
            ),
            (
                "((i = $(a) << 2)); for ((i = 0; i < 3; i++)); do b; done; ((c; (d)); e); ( (f) ); ((g) | h)",
                "a b c d e f g h",
            ),
            ("exec > >(a | tee x) 2>&1 b; c <(d) x >(e; f) y; 3<(g)h i", "a b c d e f g tee"),
            ("# comment; mkfs\ntrue # rm\n", ""),
            ("'quoted name' x; \"stat\" y", "stat"),
            ("echo `rm x` $(ls y)", "ls rm"),
            (
                "a=$(dirname \"$(readlink -f $0)\"); b=\"`uname` $((1 + $(wc -l)))\"",
                "dirname readlink uname wc",
            ),
            ("x=${y:-$(id -u)}; ${PAGER:-less} f; \"${AWK=awk}\" g; ${A-b}c; ${A+d}", "awk id less"),
            (
                "exec env -u A FOO=1 xargs -n 1 -I % sort; exec -a q date; nohup timeout 5s tail",
                "date env nohup sort tail timeout xargs",
            ),
            (
                "find . -type f -exec chown x {} + -o -name y; find / -name sh -execdir sed p \\;\ndate",
                "chown date find sed",
            ),
            (
                "gosu postgres \"$0\" \"$@\"; exec gosu \"$USER\" initdb -D x; su-exec a:b ls",
                "gosu initdb ls su-exec",
            ),
            (
                "gosu \"$USER\" env A.B=1 a; timeout \"$T\" b; exec nice -n \"$N\" c; setuidgid x y; gosu x",
                "a b c env gosu nice setuidgid timeout y",
            ),
            (
                "su postgres -c 'a -D x'; exec su - x -s /bin/bash -c \"b; c $Y\"; su -cd x; su --command=e -",
                "/bin/bash a b c d e su",
            ),
            ("runuser -u x -g y -- a b; runuser --user=x c; runuser -l x -c d; runuser x", "a c d runuser"),
            ("flock -w 5 /run/lock a b; flock -xn /l -c 'c; d'; flock -u 9; flock 9", "a c d flock"),
            (
                "setpriv --reuid x --regid=y --clear-groups a; unshare -fp --wd / b; unshare -R /x c",
                "a b setpriv unshare",
            ),
            ("chroot --userspec=x:y / a; chroot / b; chroot /new c; chroot \"$X\" d", "a b chroot"),
            (
                "chpst -u x -e /env -P a; su-exec x b; ionice -c2 -n 7 c; ionice -p 1 d",
                "a b c chpst ionice su-exec",
            ),
            (
                "taskset -c 0-3 a; taskset -cp 0 12; xargs -rI{} b {}; xargs -0n 1 c; xargs -i d; xargs -P\"$N\" e",
                "a b c d e taskset xargs",
            ),
            (
                "command -v a >/dev/null || command -p b; env -iS 'A=1 c -x' d; sudo -Eu x d; sudo -l e",
                "b c d env sudo",
            ),
            (
                "eval \"exec a\"; eval 'b |' c -d; eval \"$X d\"; eval \"x=\\$$y\" >&2; eval; (eval e)",
                "a b c e",
            ),
            (
                "A=\"$B\" a; A=$B exec b; exec env HOME=\"/home/$u\" c; bash --login -c 'A=$X d y'; A=ä$B e",
                "a b bash c d e env",
            ),
            (
                "exec setpriv --reuid=\"$U\" --regid=\"$G\" --clear-groups a; chroot --userspec=\"$U\" / b; nice -n\"$N\" c",
                "a b c chroot nice setpriv",
            ),
            (
                "runuser --user=\"$U\" -- a; flock -w$T $LOCK b; env --chdir=\"$D\" c; su x --command=\"d $X\"; nice -$N e",
                "a b c d e env flock nice runuser su",
            ),
            (
                "timeout --kill-after=\"$T\" 5 a; xargs -r`b` -I{} c; su x --shell=$S; sudo -E$u d; sh -e$X -c e",
                "a b c d e sh su sudo timeout xargs",
            ),
            (
                "time -p a; time { b; }; time A=1 c; /usr/bin/time -f %e d; time ! e",
                "/usr/bin/time a b c d e",
            ),
            (
                "find . -exec a {} \\; -name x -exec nice b {} \\; -execdir c {} + -ok sh -c d \\;; -exec e",
                "a b c d find nice sh",
            ),
            (
                "bash -O x -c a; sh -c -- b; bash -eo pipefail -c -x c; dash -oc x d; sh -c -e -- e y",
                "a b bash c d dash e sh",
            ),
            ("exec tini -g -- redis-server; stdbuf -oL sed s", "redis-server sed stdbuf tini"),
            ("f() { ls; }; x=$(f)", "ls"),
            ("! grep -q x || time sleep 1", "grep sleep"),
            ("a\\\nb c", "ab"),
            ("$($($(ls", "ls"),
            ("diff <(sort a) <(uniq b)", "diff sort uniq"),
            ("ls 'unclosed", "ls"),
            ("[ -x /bin/a ] && /bin/a", "/bin/a"),
            ("sh -c \"exec app --port $PORT\"; bash -eu -o pipefail -c 'a | b \"$1\"' x", "a app b bash sh"),
            (
                "exec gosu x /bin/sh -lc 'bash -c \"one; `two`\"'; sh run.sh -c y",
                "/bin/sh bash gosu one sh two",
            ),
            ("sh -c \"${RUN:-serve}\"; sh -c \"$RUN\"; sh -c", "serve sh"),
        ] {
            let found = started_by(script.as_bytes()).programs;
            let found: Vec<_> = found.iter().map(|word| str::from_utf8(word).unwrap()).collect();
            assert_eq!(found.join(" "), words, "{script}");
        }
    }

    #[test]
    fn what_repeats_without_end_is_read_to_the_end() {
        let many = format!("{}/su {}", "a".repeat(300_000), "-l ".repeat(100_000));
        assert_eq!(started_by(many.as_bytes()).logins.len(), 1);
        let long =
            format!("{}; {}; /{}; {}b", "a".repeat(255), "a".repeat(256), "a".repeat(256), "a/".repeat(2048));
        assert_eq!(started_by(long.as_bytes()).programs, ["a".repeat(255).into_bytes()]);
        for (repeated, count, words) in [
            ("<<A ", 200_000, ""),
            ("a <<A <", 100_000, "a"),
            ("a $(", 200_000, "a"),
            ("((", 300_000, ""),
            ("a=(", 200_000, ""),
            ("[[ (", 200_000, ""),
            ("a <(", 200_000, "a"),
            ("((a);", 100_000, "a"),
        ] {
            let script = repeated.repeat(count) + "\n";
            let found = started_by(script.as_bytes()).programs;
            let found: Vec<_> = found.iter().map(|word| str::from_utf8(word).unwrap()).collect();
            assert_eq!(found.join(" "), words, "{repeated}");
        }
    }

    #[test]
    fn what_is_no_text_hides_nothing_behind_it() {
        for script in [
            &b"su x -c '\xff; a'"[..],
            b"su x --command='\xff; a'",
            b"A=\xff a",
            b"A=x\xff a",
            b"nice -n\xff a",
            b"gosu \xff a",
        ] {
            let found = started_by(script).programs;
            assert!(found.contains(&b"a".to_vec()), "{}", script.escape_ascii());
        }
    }

    #[test]
    fn words_of_a_command_start_what_they_say() {
        for (words, started) in [
            (&["/bin/sh", "-c", "sh -c \"exec app\" && ls"][..], "/bin/sh app ls sh"),
            (&["tini", "-g", "--", "gosu", "x", "sh", "-c", "serve $X"], "gosu serve sh tini"),
            (&["/usr/bin/env", "A=1", "python3", "-c", "import x"], "/usr/bin/env python3"),
            (&["app", "sh", "-c", "x"], "app"),
            (&["su", "-", "x", "-c", "sh -c 'a | b'; sh c"], "a b sh su < c"),
            (&["su", "x", "-s", "/bin/sh", "--", "/start.sh", "-c"], "/bin/sh su < /start.sh"),
            (&["/usr/sbin/runuser", "-u", "x", "sh", "/start.sh"], "/usr/sbin/runuser sh < /start.sh"),
            (&["find", "/x", "-exec", "a", "{}", ";"], "a find"),
            (&["time", "-p", "x"], "x"),
            (&["if", "x"], ""),
            (&["/bin/bash", "-eo", "pipefail", "-c", "a | b"], "/bin/bash a b"),
            (&["sh", "-e", "/start.sh", "x.sh"], "sh < /start.sh"),
            (&["tini", "--", "bash", "--rcfile", "/rc", "-xo", "pipefail", "--", "run"], "bash tini < run"),
            (&["/bin/sh", "-c", "dash one; exec sh $X; sh two"], "/bin/sh dash sh < one two"),
            (&["bash", "-s", "one"], "bash"),
            (&["python3", "/x.py"], "python3"),
            (&["sh", "-c"], "sh"),
            (&["su", "x", "", "-c"], "su"),
            (&[], ""),
        ] {
            let Started { programs, scripts, .. } = super::started(words);
            let mut found: Vec<_> = programs.iter().map(|word| str::from_utf8(word).unwrap()).collect();
            found.push("<");
            found.extend(scripts.iter().map(|word| str::from_utf8(word).unwrap()));
            assert_eq!(found.join(" ").trim_matches([' ', '<']), started, "{words:?}");
        }
    }

    #[test]
    fn login_shells_are_those_that_are_told_to_be() {
        for (script, logins) in [
            ("bash -l; /bin/sh -lc 'ls -l'; dash --login x; ash -ec 'x' -l; ksh +l", "/bin/sh bash dash"),
            ("bash -c 'sh -l' -l; bash -x --rcfile -l y; zsh -c l", "sh"),
            ("su - x -c 'bash y'; runuser -lP x; sudo -iu x y", "runuser:x su:x sudo:x"),
            ("su x -c 'z -l'; runuser x - -c y", "runuser:x"),
            ("su -; su - y; su -l $X; sudo -i; sudo -i -ux:g", "su su:root su:y sudo:root sudo:x"),
            ("gosu x:y bash -l; su-exec $X bash -l; doas bash -l", "bash bash:root bash:x"),
            (
                "runuser -ux -- bash -l; sudo --user=7 nice ash -l; ksh -l; setpriv --reuid x zsh -l",
                "ash:7 bash:x ksh zsh",
            ),
            ("su x; runuser -g -l x; sudo -u -i x; exec env -i nice bash -el", "bash"),
            ("exec -l bash; nice x; exec -cla - /bin/sh; x -l", "/bin/sh bash"),
            ("sh -c -l x; bash -O l; su - x -c y; nice bash -l", "bash sh su:x"),
            ("login -l; ls -l", ""),
        ] {
            let shown = |Login { program, user }: Login| {
                let user = user.map_or(String::new(), |user| format!(":{}", user.escape_ascii()));
                format!("{}{user}", program.escape_ascii())
            };
            let found: Vec<_> = started_by(script.as_bytes()).logins.into_iter().map(shown).collect();
            assert_eq!(found.join(" "), logins, "{script}");
        }
    }
}
