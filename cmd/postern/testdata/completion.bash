# bash completion for postern
_postern() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path='' w
  for w in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path/$w" in /demo|/serve|/check|/passwd|/dkim|/dkim/keygen|/dkim/record|/dkim/verify|/dkim/sign|/token|/token/keygen|/token/decode|/queue|/queue/list|/queue/show|/queue/retry|/queue/drop|/events|/events/tail|/events/stats|/events/batches|/events/replay|/accounting|/report|/jobid|/completion|/version) path="$path/$w" ;; esac
  done
  COMPREPLY=()
  case "$path $prev" in
    '/demo --state-dir') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/serve --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/serve --role') COMPREPLY=($(compgen -W 'all tracker' -- "$cur")); return ;;
    '/check --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/check --role') COMPREPLY=($(compgen -W 'all tracker' -- "$cur")); return ;;
    '/check --dns') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/passwd --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/keygen --domain') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/keygen --selector') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/keygen --out') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/keygen --type') COMPREPLY=($(compgen -W 'rsa2048 rsa3072 rsa4096 ed25519' -- "$cur")); return ;;
    '/dkim/record --domain') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/record --selector') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/record --key') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/verify --domain') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/verify --selector') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/verify --key') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/verify --dns') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/sign --domain') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/sign --selector') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/dkim/sign --key') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/token/decode --keys') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/token/decode --host') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/queue/list --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/queue/list --n') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/queue/show --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/queue/retry --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/queue/drop --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/events/tail --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/events/tail --type') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/events/tail --message') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/events/stats --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/events/batches --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/events/batches --n') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/events/replay --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/accounting --config') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/accounting --socket') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/accounting --dir') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/report --keys') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
    '/report --header') COMPREPLY=($(compgen -W '' -- "$cur")); return ;;
  esac
  case "$path" in
    '') COMPREPLY=($(compgen -W 'demo serve check passwd dkim token queue events accounting report jobid completion version --help --version' -- "$cur")) ;;
    '/demo') COMPREPLY=($(compgen -W '--help --version --state-dir --verbose' -- "$cur")) ;;
    '/serve') COMPREPLY=($(compgen -W '--help --version --config --role' -- "$cur")) ;;
    '/check') COMPREPLY=($(compgen -W '--help --version --config --role --strict --online --dns' -- "$cur")) ;;
    '/passwd') COMPREPLY=($(compgen -W '--help --version --config --delete --list' -- "$cur")) ;;
    '/dkim') COMPREPLY=($(compgen -W 'keygen record verify sign --help --version' -- "$cur")) ;;
    '/dkim/keygen') COMPREPLY=($(compgen -W '--help --version --domain --selector --out --type' -- "$cur")) ;;
    '/dkim/record') COMPREPLY=($(compgen -W '--help --version --domain --selector --key --plain' -- "$cur")) ;;
    '/dkim/verify') COMPREPLY=($(compgen -W '--help --version --domain --selector --key --dns' -- "$cur")) ;;
    '/dkim/sign') COMPREPLY=($(compgen -W '--help --version --domain --selector --key' -- "$cur")) ;;
    '/token') COMPREPLY=($(compgen -W 'keygen decode --help --version' -- "$cur")) ;;
    '/token/keygen') COMPREPLY=($(compgen -W '--help --version' -- "$cur")) ;;
    '/token/decode') COMPREPLY=($(compgen -W '--help --version --keys --host' -- "$cur")) ;;
    '/queue') COMPREPLY=($(compgen -W 'list show retry drop --help --version' -- "$cur")) ;;
    '/queue/list') COMPREPLY=($(compgen -W '--help --version --config --json --n' -- "$cur")) ;;
    '/queue/show') COMPREPLY=($(compgen -W '--help --version --config' -- "$cur")) ;;
    '/queue/retry') COMPREPLY=($(compgen -W '--help --version --config' -- "$cur")) ;;
    '/queue/drop') COMPREPLY=($(compgen -W '--help --version --config' -- "$cur")) ;;
    '/events') COMPREPLY=($(compgen -W 'tail stats batches replay --help --version' -- "$cur")) ;;
    '/events/tail') COMPREPLY=($(compgen -W '--help --version --config --type --message --follow --all --raw' -- "$cur")) ;;
    '/events/stats') COMPREPLY=($(compgen -W '--help --version --config' -- "$cur")) ;;
    '/events/batches') COMPREPLY=($(compgen -W '--help --version --config --json --n' -- "$cur")) ;;
    '/events/replay') COMPREPLY=($(compgen -W '--help --version --config' -- "$cur")) ;;
    '/accounting') COMPREPLY=($(compgen -W '--help --version --print --pipe --config --socket --dir' -- "$cur")) ;;
    '/report') COMPREPLY=($(compgen -W '--help --version --keys --header' -- "$cur")) ;;
    '/jobid') COMPREPLY=($(compgen -W '--help --version' -- "$cur")) ;;
    '/completion') COMPREPLY=($(compgen -W '--help --version bash zsh fish' -- "$cur")) ;;
    '/version') COMPREPLY=($(compgen -W '--help --version' -- "$cur")) ;;
  esac
}
complete -o default -F _postern postern
