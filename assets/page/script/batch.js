/* Runs if a batch could not start or ended with an error: shows Start and hides Cancel. */
(() => {
  const show = (visible) => ({ __type__: "update", visible });
  window.blipSpace.resetBatchButtons = () => [show(true), show(false)];
})();
