#compdef postern
_postern() {
  local cmd='' w
  local -a list
  for w in "${(@)words[2,CURRENT-1]}"; do
    case "$cmd/$w" in /demo|/serve|/check|/passwd|/dkim|/dkim/keygen|/dkim/record|/dkim/verify|/dkim/sign|/token|/token/keygen|/token/decode|/queue|/queue/list|/queue/show|/queue/retry|/queue/drop|/events|/events/tail|/events/stats|/events/batches|/events/replay|/accounting|/report|/jobid|/completion|/version) cmd="$cmd/$w" ;; esac
  done
  case "$cmd ${words[CURRENT-1]}" in
    '/demo --state-dir') _files; return ;;
    '/serve --config') _files; return ;;
    '/serve --role') compadd -- all tracker; return ;;
    '/check --config') _files; return ;;
    '/check --role') compadd -- all tracker; return ;;
    '/check --dns') _files; return ;;
    '/passwd --config') _files; return ;;
    '/dkim/keygen --domain') _files; return ;;
    '/dkim/keygen --selector') _files; return ;;
    '/dkim/keygen --out') _files; return ;;
    '/dkim/keygen --type') compadd -- rsa2048 rsa3072 rsa4096 ed25519; return ;;
    '/dkim/record --domain') _files; return ;;
    '/dkim/record --selector') _files; return ;;
    '/dkim/record --key') _files; return ;;
    '/dkim/verify --domain') _files; return ;;
    '/dkim/verify --selector') _files; return ;;
    '/dkim/verify --key') _files; return ;;
    '/dkim/verify --dns') _files; return ;;
    '/dkim/sign --domain') _files; return ;;
    '/dkim/sign --selector') _files; return ;;
    '/dkim/sign --key') _files; return ;;
    '/token/decode --keys') _files; return ;;
    '/token/decode --host') _files; return ;;
    '/queue/list --config') _files; return ;;
    '/queue/list --n') _files; return ;;
    '/queue/show --config') _files; return ;;
    '/queue/retry --config') _files; return ;;
    '/queue/drop --config') _files; return ;;
    '/events/tail --config') _files; return ;;
    '/events/tail --type') _files; return ;;
    '/events/tail --message') _files; return ;;
    '/events/stats --config') _files; return ;;
    '/events/batches --config') _files; return ;;
    '/events/batches --n') _files; return ;;
    '/events/replay --config') _files; return ;;
    '/accounting --config') _files; return ;;
    '/accounting --socket') _files; return ;;
    '/accounting --dir') _files; return ;;
    '/report --keys') _files; return ;;
    '/report --header') _files; return ;;
  esac
  case "$cmd" in
    '') list=( 'demo:Everything embedded on loopback, to try it out' 'serve:Run the gateway' 'check:Say all that is wrong with a configuration' 'passwd:Add, change, delete or list users' 'dkim:Signing keys and their DNS records' 'token:The keys of tracked links, and what a link holds' 'queue:Copies that wait in the retry spool: list, show, retry, drop' 'events:The event spool: tail, stats, batches, replay' 'accounting:PowerMTA'"'"'s accounting records as events' 'report:What bounces and complaints say, as JSON lines' 'jobid:Show what X-Job makes of names, one a line' 'completion:Print a script that completes commands for a shell' 'version:Version, commit and Go version' '--help:Show context-sensitive help' '--version:Version, commit and Go version' ) ;;
    '/demo') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--state-dir:Where keys, spool and configuration stay; a temporary folder otherwise' '--verbose:Show the gateway'"'"'s log' ) ;;
    '/serve') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' '--role:tracker: the links alone, with the key file and a spool; many may run behind a balancer' ) ;;
    '/check') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' '--role:Role to check: all, tracker' '--strict:Take warnings for errors' '--online:Also ask the world: the upstreams, the DNS, every tracking host, the ingest service' '--dns:With --online: ask this server instead of the system'"'"'s' ) ;;
    '/passwd') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' '--delete:Remove the user' '--list:List the users' ) ;;
    '/dkim') list=( 'keygen:Make a key and print the DNS record to publish' 'record:Print the DNS record of a key' 'verify:Ask the DNS whether the published key is the one on disk; look for SPF and DMARC' 'sign:Sign a message from a file, to standard output' '--help:Show context-sensitive help' '--version:Version, commit and Go version' ) ;;
    '/dkim/keygen') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--domain:The domain that signs (d=)' '--selector:The selector (s=)' '--out:Where the private key goes; must not exist' '--type:rsa2048, rsa3072, rsa4096 or ed25519' ) ;;
    '/dkim/record') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--domain:The domain that signs (d=)' '--selector:The selector (s=)' '--key:The private key'"'"'s file' '--plain:The record'"'"'s value alone, without name and quotes' ) ;;
    '/dkim/verify') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--domain:The domain that signs (d=)' '--selector:The selector (s=)' '--key:The private key'"'"'s file' '--dns:Ask this server instead of the system'"'"'s' ) ;;
    '/dkim/sign') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--domain:The domain that signs (d=)' '--selector:The selector (s=)' '--key:The private key'"'"'s file' ) ;;
    '/token') list=( 'keygen:Make a key file, or add a newer key to it' 'decode:Print what a tracked link holds, as JSON' '--help:Show context-sensitive help' '--version:Version, commit and Go version' ) ;;
    '/token/keygen') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' ) ;;
    '/token/decode') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--keys:The key file' '--host:With a token alone: the tracking host that it is sealed for, where it is not one of a mail' ) ;;
    '/queue') list=( 'list:Copies that wait, those due first first' 'show:Print a waiting copy; list them where the id is that of several' 'retry:Make a copy due now; without an id, all' 'drop:Forget a copy for good; its sender is not told' '--help:Show context-sensitive help' '--version:Version, commit and Go version' ) ;;
    '/queue/list') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' '--json:As JSON' '--n:At most so many' ) ;;
    '/queue/show') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' ) ;;
    '/queue/retry') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' ) ;;
    '/queue/drop') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' ) ;;
    '/events') list=( 'tail:Print events as they come, as JSON lines' 'stats:What is in the spool: events by type, bytes, how much waits' 'batches:What became of the batches' 'replay:Put events of a file into the spool again, with their ids' '--help:Show context-sensitive help' '--version:Version, commit and Go version' ) ;;
    '/events/tail') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' '--type:Only events of these types or classes, by either of their names' '--message:Only events of this message id, or of all copies of the message that was queued as this' '--follow:Wait for more' '--all:From the beginning of what is kept, not only what comes now' '--raw:As they are stored: the Ingest API'"'"'s JSON, with its names' ) ;;
    '/events/stats') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' ) ;;
    '/events/batches') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' '--json:As JSON lines' '--n:The newest so many' ) ;;
    '/events/replay') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--config:Configuration file' ) ;;
    '/accounting') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--print:Print the events of the files as JSON lines; nothing else is touched' '--pipe:Take records from standard input, as PowerMTA'"'"'s pipe writes them; the gateway makes events of them' '--config:Configuration file' '--socket:With --pipe: the gateway'"'"'s socket ([accounting] pipe_socket); the configuration is not read' '--dir:With --pipe: a folder for records while there is no gateway ([accounting] pipe_dir); the configuration is not read' ) ;;
    '/report') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' '--keys:The token key file: message_id is then given where it verifies' '--header:The header field that carries message ids' ) ;;
    '/jobid') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' ) ;;
    '/completion') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' 'bash:' 'zsh:' 'fish:' ) ;;
    '/version') list=( '--help:Show context-sensitive help' '--version:Version, commit and Go version' ) ;;
  esac
  _describe postern list
  [[ ${words[CURRENT]} == -* || -z $cmd ]] || _files
}
if [[ $funcstack[1] == _postern ]]; then _postern "$@"; else compdef _postern postern; fi
