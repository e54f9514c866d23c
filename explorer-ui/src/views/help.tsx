/** What the keys and the signs mean. */

import { Dialog } from "../parts/bits";

const KEYS: readonly (readonly [string, string])[] = [
  ["1 – 6", "Dashboard, Packets, Accounts, Peers, Keys, Log"],
  ["Ctrl-K or /", "Go to a page, find a peer, account, packet or route, do something"],
  ["↑ ↓ Enter", "Walk through a list, open what is chosen"],
  ["j k", "The packet below, the one above, while one is open"],
  ["← →", "Move the pointer of a focused chart"],
  ["Esc", "Close what is open"],
  ["?", "This help"],
];

export function Help(props: { onClose: () => void }) {
  return (
    <Dialog label="Help" onClose={props.onClose}>
      <h2>Help</h2>
      <table class="keys-table">
        <tbody>
          {KEYS.map(([key, text]) => (
            <tr key={key}>
              <th scope="row">
                <kbd>{key}</kbd>
              </th>
              <td>{text}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <h3>Balances</h3>
      <p>
        <b class="owed">+ Emerald: the peer owes us</b>. Value it sent through us is more than what we sent towards it.
      </p>
      <p>
        <b class="owing">− Rose: we owe the peer</b>. When that passes the threshold agreed for it, a settlement is made.
      </p>
      <p>Amounts are shown in units of their asset, rounded; the exact value appears when you point at them.</p>
      <h3>Links</h3>
      <p>The address of the page holds tab, filters and what is open: copy it to show somebody what you see.</p>
      <button type="button" class="button" autofocus onClick={props.onClose}>
        Close
      </button>
    </Dialog>
  );
}
