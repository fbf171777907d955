//! For every input, taken as a script:
//! - no panic, bounded time and memory, however deep the quotes and substitutions are;
//! - the words are sorted, each is there once, none is empty or holds a blank or NUL that could not be in a name.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::shell::{Started, started_by};
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let Started { programs: words, scripts, logins } = started_by(bytes);
    assert!(logins.iter().all(|login| !login.program.is_empty() && login.user != Some(Vec::new())));
    assert!(logins.is_sorted() && logins.windows(2).all(|pair| pair[0] != pair[1]));
    for words in [&words, &scripts] {
        assert!(words.iter().all(|word| !word.is_empty()));
        assert!(words.is_sorted() && words.windows(2).all(|pair| pair[0] != pair[1]));
    }
    let len = words.iter().map(Vec::len).sum();
    signature(&[words.len(), len, words.first().map_or(0, |word| word[0].into())])
}

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 6] = [
        b"#!/bin/sh\nset -e\nFOO=1 prog \"$@\" | other && third; exec last --flag\n",
        b"case $1 in a|b) one;; *) two ;; esac\nfor x in $(list); do run $x; done\nwhile true; do sleep 1; done\n",
        b"f() { inner; }\nf\ncat <<EOF | sort\ntext $(hidden)\nEOF\nif [ -x /bin/x ]; then /bin/x; fi\n",
        b"a=`b c`; \"quoted prog\" 'single' pro\\\ng ${x:-$(deep \"$(deeper)\")} >out 2>&1 &\n",
        b"su - x -s /bin/sh -c 'a | b'; eval \"exec $c d\" -e; timeout -k 1 5 xargs -rn1 nice -n 5 sh -c f; runuser -ux bash -l; gosu x su - y\n",
        b"<<A <<-B <<A cat 2>&1 &>x 3<>y <<<z\nA\n\tB\nA\n",
    ];
    texts.map(<[u8]>::to_vec).into()
}
