//! A command as the build file has it -> what is wrong with how it is written, if nobody can mean that.

use minimage::explain::{Explanation, Spelling};
use minimage::roots::{Keep, Origin, Root};

use crate::instructions::split;
use crate::request::Finding;
use crate::variables::split_name;

/// The quotes that people type, or that their editors make of them, with those that end what is between.
const QUOTES: [(char, char); 7] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('”', '”'), ('‘', '’'), ('’', '’')];

/// Returns what to say of the program of `root`, if nobody can mean that by a command in brackets; `variables` are the
/// names of those of the image.
pub(crate) fn slip(root: &Root, variables: &[String]) -> Option<Explanation> {
    let Keep::Program { name, .. } = &root.keep else { return None };
    let name = name.to_string();
    let text = match &root.origin {
        Origin::Line { text, .. } | Origin::Argument(text) => text.as_str(),
        Origin::Choice(_) => "",
    };
    let command = Command::read(text, &name);
    let explanation = |what: String| Explanation::new("exec-form", what).at(root.origin.to_string());
    let first = command.words.first().map_or("", |word| word.as_str());
    if first.trim().is_empty() {
        let explanation = explanation("the name of the program is empty".to_owned());
        let start = command.start;
        let none = match start.split_whitespace().next() {
            Some(keyword) if keyword.eq_ignore_ascii_case("HEALTHCHECK") => format!("{keyword} NONE"),
            _ => format!("{start} []"),
        };
        let fix = format!("write `{start} [\"PROGRAM\", \"ARGUMENT\"]`, or `{none}` for none");
        return Some(explanation.fix(fix));
    }
    if let Some(variable) = variable(first) {
        let explanation =
            explanation(format!("`{first}` stays as it is: in brackets, no shell puts in variables"));
        let direct = explanation.fix(format!("write what `{variable}` stands for"));
        return Some(match variables.iter().any(|known| known == variable) {
            true => direct.fix(format!("or {}", command.by_shell())),
            false => {
                direct.why(format!("the image has no variable `{variable}`; an `ARG` is for the build only"))
            }
        });
    }
    if first.contains("$(") || first.contains('`') {
        let what = format!("`{first}` stays as it is: in brackets, no shell puts in what commands print");
        return Some(explanation(what).fix(command.by_shell()));
    }
    first.contains(char::is_whitespace).then(|| {
        let what =
            format!("`{first}` is the name of one program: in brackets, each word has quotes of its own");
        explanation(what).fix(command.apart())
    })
}

/// Returns what to say of the command that `words` are, if the build file has it in brackets but not as JSON: the stock
/// frontend has a shell run it then, brackets and all. It is `written` after the start of its instruction, which is `start`,
/// in `lines` of `file`.
pub(crate) fn not_json(
    start: &str,
    words: &[&str],
    written: &str,
    lines: (i32, i32),
    file: &str,
) -> Option<Finding> {
    let command = words.get(1..)?.last()?.trim();
    let of_shell =
        written.find('[').is_none_or(|at| serde_json::from_str::<Vec<String>>(&written[at..]).is_err());
    let list = List::read(command.strip_prefix('[')?);
    if !of_shell || !list.is_meant() {
        return None;
    }
    let what = format!("`{command}` is no list, so that a shell would look for a program of this name");
    let explanation = Explanation::new("exec-form", what).at(format!("`{start}` ({file}:{})", lines.0));
    let explanation = match list.after.trim() {
        "" => explanation
            .why("in brackets, words have double quotes around them and commas between them")
            .fix(format!("write `{start} {}`", json(&list.words))),
        after => explanation
            .why(format!("after a list, there can be nothing else, as `{after}`"))
            .fix("write the command without brackets, so that a shell runs it"),
    };
    Some(Finding { lines, text: explanation.spelled(Spelling::Labels) })
}

/// Returns `words` as a list.
fn json(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| serde_json::json!(word).to_string()).collect();
    format!("[{}]", words.join(", "))
}

/// What somebody wrote as a list, or as a test in a shell.
#[derive(Debug, Default)]
struct List<'a> {
    words: Vec<String>,
    /// Whether it begins as what `[` or `[[` is to test does.
    is_apart: bool,
    /// Whether there is something that is neither in quotes nor between words.
    has_bare: bool,
    /// What follows the bracket at its end.
    after: &'a str,
}

impl<'a> List<'a> {
    /// Reads what follows the bracket at its beginning.
    fn read(text: &'a str) -> Self {
        let is_apart = text.starts_with(|letter: char| letter.is_whitespace() || letter == '[');
        let mut list = Self { is_apart, ..Self::default() };
        let mut word = String::new();
        let mut quote = None;
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match quote {
                Some(end) if letter == end => {
                    quote = None;
                    list.words.push(unescaped(std::mem::take(&mut word)));
                }
                Some('"') if letter == '\\' => {
                    word.push(letter);
                    word.extend(letters.next());
                }
                Some(_) => word.push(letter),
                None if QUOTES.iter().any(|(start, _)| *start == letter)
                    || letter == ','
                    || letter == ']'
                    || letter.is_whitespace() =>
                {
                    list.words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                    quote = QUOTES.iter().find(|(start, _)| *start == letter).map(|(_, end)| *end);
                    if letter == ']' {
                        list.after = letters.as_str();
                        return list;
                    }
                }
                None => {
                    list.has_bare = true;
                    word.push(letter);
                }
            }
        }
        list.words.extend(Some(word).filter(|word| !word.is_empty()));
        list
    }

    /// Returns whether a list was meant, and not a command of the shell.
    fn is_meant(&self) -> bool {
        let is_test = self.is_apart && (self.has_bare || !self.after.trim().is_empty());
        !self.words.is_empty() && !is_test
    }
}

/// Returns what JSON takes `word` for, which is without its quotes.
fn unescaped(word: String) -> String {
    serde_json::from_str(&format!("\"{word}\"")).unwrap_or(word)
}

/// A command in brackets.
struct Command<'a> {
    /// What stands before the brackets.
    start: &'a str,
    words: Vec<String>,
    /// Whether these are all of it, and not only the name of its program.
    is_whole: bool,
}

impl<'a> Command<'a> {
    /// Returns the command that `text` says; if that is not all of it, the beginning, which is `name`.
    fn read(text: &'a str, name: &str) -> Self {
        let brackets = text.find('[').map(|at| text.split_at(at));
        let whole = brackets.and_then(|(start, words)| {
            let words: Vec<String> = serde_json::from_str(words).ok()?;
            (!words.is_empty()).then_some(Self { start: start.trim_end(), words, is_whole: true })
        });
        let start = text.split_whitespace().next().unwrap_or_default();
        whole.unwrap_or_else(|| Self { start, words: vec![name.to_owned()], is_whole: false })
    }

    /// Returns how its first word is taken apart.
    fn apart(&self) -> String {
        let Self { start, words, is_whole } = self;
        let Some((first, rest)) = words.split_first() else { return String::new() };
        let mut words = split(first);
        if *is_whole {
            words.extend_from_slice(rest);
            return format!("write `{start} {}`", json(&words));
        }
        let list = json(&words);
        let first = serde_json::json!(first);
        format!("write `{}` for `{first}`", list.trim_start_matches('[').trim_end_matches(']'))
    }

    /// Returns how a shell runs it.
    fn by_shell(&self) -> String {
        if !self.is_whole {
            return "have a shell put it in: write the command without brackets".to_owned();
        }
        let words: Vec<String> = self.words.iter().map(|word| in_shell(word)).collect();
        format!("have a shell put it in: `{} exec {}`", self.start, words.join(" "))
    }
}

/// Returns `word` so that a shell takes it for one word, with its variables put in.
fn in_shell(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "$%+,-./:=@_{}".contains(letter);
    match word.chars().all(is_plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// Returns the name of the first variable in `word`.
fn variable(word: &str) -> Option<&str> {
    let (_, after) = word.split_once('$')?;
    let (name, _) = split_name(after.strip_prefix('{').unwrap_or(after));
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, name: &str) -> Option<String> {
        let keep = Keep::Program { name: name.into(), to: None };
        let origin = Origin::Line { file: "Dockerfile".to_owned(), line: 3, text: text.to_owned() };
        slip(&Root { keep, origin }, &["BIN".to_owned()]).map(|explanation| explanation.to_string())
    }

    #[test]
    fn a_list_that_is_none_is_told_as_it_was_meant() {
        let said = |written: &str| {
            let words = ["/bin/sh", "-c", written.trim_start_matches("--retries=1 CMD ")];
            not_json("CMD", &words, written, (2, 3), "Dockerfile").map(|finding| finding.text)
        };
        for (command, meant) in [
            ("['ls', '-l']", r#""ls", "-l""#),
            ("[ls, -l]", r#""ls", "-l""#),
            (r#"["-c" "print(1)"]"#, r#""-c", "print(1)""#),
            (r#"["-c" "print('\u00e9\"')"]"#, r#""-c", "print('é\"')""#),
            (r#"["grep", "\d"]"#, r#""grep", "\\d""#),
            ("[ 'a', \"b\" ]", r#""a", "b""#),
            (r#"[ "a", "b",]"#, r#""a", "b""#),
            (r#"["a", "b c""#, r#""a", "b c""#),
            ("[“a”, “b\\”]", r#""a", "b\\""#),
        ] {
            let expected = format!(
                "error[exec-form]: `{command}` is no list, so that a shell would look for a program of this name\n  \
                    where: `CMD` (Dockerfile:2)\n    \
                    why: in brackets, words have double quotes around them and commas between them\n    \
                    fix: write `CMD [{meant}]`"
            );
            assert_eq!(said(command).as_ref(), Some(&expected));
            assert_eq!(said(&format!("--retries=1 CMD {command}")), Some(expected));
        }
        let expected = "error[exec-form]: `[\"a\"] || b` is no list, so that a shell would look for a program of this name\n  \
            where: `CMD` (Dockerfile:2)\n    why: after a list, there can be nothing else, as `|| b`\n    \
            fix: write the command without brackets, so that a shell runs it";
        assert_eq!(said(r#"["a"] || b"#).as_deref(), Some(expected));
        for command in [
            "[ -e /x ] && y",
            r#"[ "$(cat /x)" = ok ] || exit 1"#,
            r#"[ "$X" = x ] && exec ls || exec cat"#,
            r#"[ "$X" ] || exit"#,
            r#"[["$X" = x ]]"#,
            "a ['b']",
            "[",
            "",
        ] {
            assert_eq!(said(command), None, "{command}");
        }
        // A list whose last word looks like one.
        for last in ["['a']", r#"["a", "b"]"#] {
            let written = serde_json::json!(["/bin/sh", "-c", last]).to_string();
            assert_eq!(not_json("CMD", &["/bin/sh", "-c", last], &written, (2, 2), "Dockerfile"), None);
        }
    }

    #[test]
    fn a_command_in_brackets_is_not_one_of_a_shell() {
        let words = "is the name of one program: in brackets, each word has quotes of its own";
        let variable = "stays as it is: in brackets, no shell puts in variables";
        let printed = "stays as it is: in brackets, no shell puts in what commands print";
        let none = "\n    why: the image has no variable `X`; an `ARG` is for the build only";
        let empty = "the name of the program is empty";
        for (text, name, what, rest) in [
            (
                "CMD [\"jq -n 1\"]",
                "jq -n 1",
                format!("`jq -n 1` {words}"),
                "fix: write `CMD [\"jq\", \"-n\", \"1\"]`",
            ),
            (
                "ENTRYPOINT [ \"./a -c 'b \\\\ c'\" , \"d\" ]",
                "/w/a -c 'b \\ c'",
                format!("`./a -c 'b \\ c'` {words}"),
                "fix: write `ENTRYPOINT [\"./a\", \"-c\", \"b \\\\ c\", \"d\"]`",
            ),
            (
                "HEALTHCHECK --retries=1 CMD [\"true x\"]",
                "true x",
                format!("`true x` {words}"),
                "fix: write `HEALTHCHECK --retries=1 CMD [\"true\", \"x\"]`",
            ),
            // Of a command on several lines.
            ("CMD [\"a b\",", "a b", format!("`a b` {words}"), "fix: write `\"a\", \"b\"` for `\"a b\"`"),
            (
                "HEALTHCHECK --retries=1",
                "$BIN",
                format!("`$BIN` {variable}"),
                "fix: write what `BIN` stands for\n    \
                    fix: or have a shell put it in: write the command without brackets",
            ),
            (
                "ENTRYPOINT [\"$BIN\", \"-x\", \"echo \\\"a\\\"; ls\"]",
                "$BIN",
                format!("`$BIN` {variable}"),
                "fix: write what `BIN` stands for\n    \
                    fix: or have a shell put it in: `ENTRYPOINT exec $BIN -x \"echo \\\"a\\\"; ls\"`",
            ),
            (
                "CMD [\"$(which node)\", \"x\"]",
                "$(which node)",
                format!("`$(which node)` {printed}"),
                "fix: have a shell put it in: `CMD exec \"$(which node)\" x`",
            ),
            (
                "CMD [\"/a/${X} y\"]",
                "/a/${X} y",
                format!("`/a/${{X}} y` {variable}"),
                &format!("{none}\n    fix: write what `X` stands for"),
            ),
            (
                "CMD [\"\"]",
                "",
                empty.to_owned(),
                "fix: write `CMD [\"PROGRAM\", \"ARGUMENT\"]`, or `CMD []` for none",
            ),
            (
                "HEALTHCHECK CMD [\" \"]",
                " ",
                empty.to_owned(),
                "fix: write `HEALTHCHECK CMD [\"PROGRAM\", \"ARGUMENT\"]`, or `HEALTHCHECK NONE` for none",
            ),
        ] {
            let rest = rest.trim_start_matches(['\n', ' ']);
            let expected = format!("error[exec-form]: {what}\n  where: `{text}` (Dockerfile:3)\n    {rest}");
            assert_eq!(said(text, name).unwrap_or_default(), expected);
        }
        assert_eq!(said("CMD [\"jq\", \"-n 1\", \"$X\"]", "jq"), None);
        assert_eq!(said("CMD jq -n 1", "/bin/sh"), None);
    }
}
