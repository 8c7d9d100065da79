function render({ model, el }) {
  const hold = e => e.target.setAttribute('data-lm-suppress-shortcuts', 'true');
  const waiting = [];
  let box = null, passing = false;
  const ask = (button, times = 0) => { waiting.push([button, times]); model.send('ask'); };
  const press = e => {
    const button = e.target.closest('button');
    if (passing || !button) return;
    e.preventDefault(); e.stopImmediatePropagation();
    ask(button);
  };
  const pass = () => {
    const [button, times] = waiting.shift() || [];
    if (button && button.disabled && times < 5) return ask(button, times + 1);     // what was chosen before the press may still be on its way
    passing = true; if (button) button.click(); passing = false;
  };
  const key = e => {
    const name = [e.ctrlKey && 'Ctrl', e.altKey && 'Alt', e.key].filter(Boolean).join('+'), button = box.querySelector('.' + (model.get('presses')[name] || 'none'));
    if (!button) return;
    e.preventDefault(); e.stopImmediatePropagation();
    const at = document.activeElement; at.blur(); at.focus();       // a text field tells what it holds as it loses focus
    ask(button);
  };
  const heard = [['focusin', hold], ['click', press], ['keydown', key]];
  requestAnimationFrame(() => { box = el.closest('.pacs-keys') || el.parentElement; heard.forEach(([on, what]) => box.addEventListener(on, what, true)); });
  model.on('msg:custom', pass);
  return () => { if (box) heard.forEach(([on, what]) => box.removeEventListener(on, what, true)); model.off('msg:custom', pass); };
}
export default { render };
